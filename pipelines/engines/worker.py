"""The process of one worker: gets the job and the key, then tasks; tells what it makes until its pipe is closed."""

import pickle
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, which then ends this process
    pipe: Connection[Any, Any] = Connection(int(sys.argv[1]))
    sys.path[:] = pipe.recv()  # so that a project's own detector of names is found here too
    serve(pipe)


def serve(pipe: "Connection[Any, Any]") -> None:
    """Works until nobody holds the other end."""
    try:
        job, key, staging = pipe.recv()
        from tracemill.pipelines.engines.work import Refused, Worker

        worker = None
        while True:
            task = pipe.recv()
            try:
                worker = worker or Worker(job, key)
            except Exception as error:  # noqa: BLE001 - it is raised where the call was made
                pipe.send(Refused(error=error))
                continue
            for message in worker.told(task, staging.pack):
                _send(pipe, message)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _send(pipe: "Connection[Any, Any]", message: Any) -> None:
    from tracemill.pipelines.engines.work import Refused

    if isinstance(message, Refused):
        try:
            pickle.loads(pickle.dumps(message))
        except Exception:  # noqa: BLE001 - somebody's own exception, which would not arrive
            message = Refused(error=RuntimeError(f"{type(message.error).__name__}: {message.error}"))
    pipe.send(message)


if __name__ == "__main__":
    main()
