"""The one exception for what a user can mend."""


class UserError(Exception):
    """Bad input: one line that names the file or key, what is wrong, and what to do.

    The command line prints it without a traceback (unless `--debug`) and exits with `code`.
    """

    code = 1


class Rejected(UserError):
    """A result that was made and did not pass its checks."""

    code = 3
