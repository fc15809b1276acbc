# user wisp
cd
cat >job.c <<'EOF'
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/wait.h>

static void *square(void *n)
{
	*(long *)n *= *(long *)n;
	return n;
}

int main(void)
{
	pthread_t thread[8];
	long n[8], sum = 0;
	for (long i = 0; i < 8; i++) {
		n[i] = i;
		pthread_create(&thread[i], NULL, square, &n[i]);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(thread[i], NULL);
		sum += n[i];
	}
	int fd = shm_open("/job", O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, 4096) < 0)
		return 1;
	sem_t *sem = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	shm_unlink("/job");
	sem_init(sem, 1, 0);
	if (fork() == 0) {
		sem_post(sem);
		_exit(3);
	}
	int status;
	sem_wait(sem);
	wait(&status);
	return sum == 140 && WEXITSTATUS(status) == 3 ? 0 : 2;
}
EOF
printf 'job: job.c\n\tgcc -O2 -Wall -pthread -o $@ $<\n' >Makefile
make -s
./job
gcc -O2 -flto -fsanitize=address,undefined -pthread -o sanitized job.c
ASAN_OPTIONS=detect_leaks=0 ./sanitized
gcc --version | head -n 1
