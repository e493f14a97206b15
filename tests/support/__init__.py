"""What several rooms of the tests share: a clock that stands still, real parts, a gateway as a process."""
