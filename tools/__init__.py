"""What only those who make this repository need: locks, stand-in images, the rehearsal of compose.yaml. Not shipped."""
