"""The server's processes: one that died is replaced at once."""

from uvicorn.supervisors import Multiprocess


class Processes(Multiprocess):
    """Uvicorn's supervisor, that hears of a death while it waits for a process's sign of life.

    It asks each process by a pipe whose other end it keeps open too. Where the process dies before it answers, nothing
    comes and nothing ends, so the supervisor would wait for as long as a living process may take.
    """

    def keep_subprocess_alive(self) -> None:
        for process in self.processes:
            # The process got a copy of its own when it was started. With ours closed, the pipe ends with the process.
            process.child_conn.close()
        super().keep_subprocess_alive()
