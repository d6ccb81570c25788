"""nat-eval and nat-sample."""
