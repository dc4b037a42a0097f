"""Small programs that stand in for training scripts: they need no TensorFlow and do one thing each."""

# Runs until it is asked to stop, and says so in its log.
POLITE = """
import signal, sys, time
def stop(*_):
    print("asked to stop", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("running", flush=True)
while True:
    time.sleep(0.05)
"""

# Ignores SIGTERM for ever.
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("running", flush=True)
while True:
    time.sleep(0.05)
"""

# Runs until a file `go` appears in its folder's parent, then ends with 0.
WAITS = """
import os, time
print("waiting", flush=True)
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.02)
print("done", flush=True)
"""

# A grandchild in a session of its own, with an empty environment, that ignores SIGTERM; its pid goes to a file.
DOUBLE_FORKS = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = ("import os,signal,sys,time\\n"
         "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
         "if os.fork(): sys.exit(0)\\n"
         "os.setsid()\\n"
         "if os.fork(): sys.exit(0)\\n"
         "open(sys.argv[1], 'w').write(str(os.getpid()))\\n"
         "time.sleep(600)\\n")
place = os.path.join(os.environ["PIDS"], os.environ["LAUNCHER_RANK"])
subprocess.run([sys.executable, "-c", child, place + ".new"], env={}, check=True)
while not (os.path.exists(place + ".new") and open(place + ".new").read()):
    time.sleep(0.01)
os.rename(place + ".new", place)
print("running", flush=True)
time.sleep(600)
"""
