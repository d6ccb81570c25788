"""The options of a learner, tuned: nat-tune."""
