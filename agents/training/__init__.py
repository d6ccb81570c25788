"""Training a policy: nat-train."""
