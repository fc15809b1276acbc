cat >/tmp/job.py <<'EOF'
import asyncio, mmap, multiprocessing, os, signal, socket, sqlite3, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor

def square(n):
    return n * n

async def ask():
    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_server(answer, "localhost", 0)
    reader, writer = await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1])
    writer.write(b"hello\n")
    line = await reader.read()
    server.close()
    return line

if __name__ == "__main__":
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(square, range(100))) == 328350
    for method in "fork", "spawn":
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            assert pool.map(square, range(10)) == [n * n for n in range(10)]
    queue = multiprocessing.Queue()  # its semaphores are in /dev/shm
    queue.put("x")
    assert queue.get() == "x"
    assert subprocess.run(["sh", "-c", "cat; exit 3"], input=b"in", capture_output=True).returncode == 3
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"data")
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
        mmap.mmap(file.fileno(), 4).flush()
    assert asyncio.run(ask()) == b"hello\n"
    assert socket.gethostbyname(socket.gethostname()).startswith("127.")
    assert os.fstat(os.memfd_create("x")).st_size == 0
    base = sqlite3.connect("/tmp/job.db")
    base.execute("pragma journal_mode=wal")
    base.execute("create table t (n integer)")
    base.executemany("insert into t values (?)", [(n,) for n in range(1000)])
    base.commit()
    assert base.execute("select sum(n) from t").fetchone() == (499500,)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    assert signal.sigwait({signal.SIGALRM}) == signal.SIGALRM
    print("Python", sys.version.split()[0])
EOF
python3 /tmp/job.py
