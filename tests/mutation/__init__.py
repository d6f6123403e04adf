"""Whether the tests would notice: every small change to the core has to fail one of them."""
