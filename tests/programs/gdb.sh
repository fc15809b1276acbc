# user wisp
# A breakpoint, a thread, a watchpoint in hardware, and a core file.
cd
cat >job.c <<'EOF'
#include <pthread.h>
#include <stdlib.h>
volatile int value;
static void *thread(void *unused)
{
	value = 42;
	return unused;
}
int main(int argc, char **argv)
{
	pthread_t t;
	pthread_create(&t, NULL, thread, NULL);
	pthread_join(t, NULL);
	if (argc > 1)
		abort();
	return value == 42 ? 0 : 1;
}
EOF
gcc -g -pthread -o job job.c
gdb -nx -batch -ex 'break thread' -ex run -ex bt -ex 'watch value' -ex continue -ex 'print value' -ex delete -ex continue ./job >out 2>&1
grep -q 'hit Breakpoint 1, thread' out || { cat out; exit 1; }
grep -q '^\$1 = 42' out && grep -q 'exited normally' out || { cat out; exit 1; }
ulimit -c unlimited
./job crash || true
[ -s core ]
gdb -nx -batch -ex bt ./job core >out 2>&1
grep -q 'in main' out && grep -q SIGABRT out || { cat out; exit 1; }
gdb --version | head -n 1
