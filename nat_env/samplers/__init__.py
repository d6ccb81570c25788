"""The field's samplers: other rules for what stays masked, in place of the least confident."""
