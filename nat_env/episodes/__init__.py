"""What those who play episodes hand to an environment, and what they are shown."""
