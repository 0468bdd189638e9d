"""What runs inside the containers beside the services themselves, and what their image is made from."""
