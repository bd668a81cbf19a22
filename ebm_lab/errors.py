"""The ways in which a run ends that are not bugs."""


class UserError(Exception):
    """A mistake of the user's, told in one sentence that names the fix; the process exits with 2."""


class Diverged(RuntimeError):
    """Training produced a non-finite or exploding loss; the process exits with 1."""


class Stopped(Exception):
    """A signal ended the run, with everything saved; the process exits with 128 + the signal's number."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
