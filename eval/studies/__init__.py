"""What the papers compare and what we compare: trainings and searches from scratch."""
