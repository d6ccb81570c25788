"""One decoding step of a frozen NAT as pure functions on tensors (AdaNAT, section 3.2)."""
