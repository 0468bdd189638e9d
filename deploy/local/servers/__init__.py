"""The servers of a local stack, each as the program that starts it: settings, data folder, the question it answers."""
