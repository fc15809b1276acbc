/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PID 1 of the emulated host: takes one job from the virtio-serial port it is
 * given, runs it, and sends its output and exit code back. See wire.h.
 *
 * It ends with the command, not with the last process that still holds the
 * output open: what is in the pipes by then is sent, then everything is killed
 * and the shared folders are unmounted, so that their data is outside before
 * the exit code is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

/* The host's root without the tmpfs mounts on it (see init). */
#define BARE_ROOT "/run/emuhost/root"

struct job {
	const char *dir;
	char **argv; /* NULL-ended, pointing into the received text */
	char **envp;
	char **rw;
	size_t n_rw;
};

static void send_bytes(int port, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(port, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break; /* nobody is left to tell; relay sees the stream end */
		p += n;
		len -= (size_t)n;
	}
}

static void send_frame(int port, enum frame_type type, const void *data, size_t len)
{
	char buf[sizeof(struct frame) + FRAME_MAX];
	struct frame head = {.type = type, .len = (uint32_t)len};

	memcpy(buf, &head, sizeof(head));
	if (len > 0)
		memcpy(buf + sizeof(head), data, len);
	send_bytes(port, buf, sizeof(head) + len);
}

/* Nothing can follow a failure or an exit code: wait to be switched off. */
static _Noreturn void halt(void)
{
	for (;;)
		pause();
}

static _Noreturn __attribute__((format(printf, 2, 3))) void fail(int port, const char *fmt, ...)
{
	char text[4096];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (len >= (int)sizeof(text))
		len = (int)sizeof(text) - 1;
	send_frame(port, FRAME_FAIL, text, len > 0 ? (size_t)len : 0);
	halt();
}

/* A read of 0 bytes means that QEMU has not announced its end yet. */
static void receive(int port, void *data, size_t len)
{
	char *p = data;

	while (len > 0) {
		ssize_t n = read(port, p, len);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			fail(port, "cannot read the job: %s", strerror(errno));
		if (n <= 0) {
			usleep(5000);
			continue;
		}
		p += n;
		len -= (size_t)n;
	}
}

static void set_clock(const char *text)
{
	char *dot;
	struct timespec now = {.tv_sec = strtoll(text, &dot, 10)};

	if (*dot == '.')
		now.tv_nsec = strtol(dot + 1, NULL, 10);
	clock_settime(CLOCK_REALTIME, &now);
}

static void receive_job(int port, struct job *job)
{
	size_t n_args = 0, n_env = 0;
	uint32_t len;
	char *text;

	receive(port, &len, sizeof(len));
	if (len == 0 || len > JOB_MAX)
		fail(port, "bad job: %u bytes", len);
	text = malloc(len);
	/* No list can be longer than the text is. */
	job->argv = calloc(len, sizeof(char *));
	job->envp = calloc(len, sizeof(char *));
	job->rw = calloc(len, sizeof(char *));
	if (!text || !job->argv || !job->envp || !job->rw)
		fail(port, "no memory for a job of %u bytes", len);
	receive(port, text, len);
	if (text[len - 1] != '\0')
		fail(port, "bad job: the last string has no end");

	for (char *s = text; s < text + len; s += strlen(s) + 1) {
		switch (*s) {
		case JOB_CLOCK: set_clock(s + 1); break;
		case JOB_DIR: job->dir = s + 1; break;
		case JOB_ENV: job->envp[n_env++] = s + 1; break;
		case JOB_RW: job->rw[job->n_rw++] = s + 1; break;
		case JOB_ARG: job->argv[n_args++] = s + 1; break;
		default: fail(port, "bad job: unknown tag %d", *s);
		}
	}
	if (!job->dir || n_args == 0)
		fail(port, "bad job: no folder or no command");
}

static void make_folders(const char *path)
{
	char *copy = strdup(path);

	for (char *s = copy; s && (s = strchr(s + 1, '/'));) {
		*s = '\0';
		mkdir(copy, 0755);
		*s = '/';
	}
	free(copy);
	mkdir(path, 0755);
}

static void mount_shared(int port, const struct job *job)
{
	char tag[32];

	for (size_t i = 0; i < job->n_rw; i++) {
		snprintf(tag, sizeof(tag), "rw%zu", i);
		make_folders(job->rw[i]);
		/* cache=mmap writes through, yet allows shared writable mappings. */
		if (mount(tag, job->rw[i], "9p", 0, "trans=virtio,version=9p2000.L,msize=512000,cache=mmap"))
			fail(port, "cannot mount %s: %s", job->rw[i], strerror(errno));
	}
}

/* A folder under /tmp or /run lies under a tmpfs here: bring it to the top. */
static void enter_folder(int port, const char *dir)
{
	char bare[4096 + sizeof(BARE_ROOT)];

	if (chdir(dir) == 0)
		return;
	snprintf(bare, sizeof(bare), "%s%s", BARE_ROOT, dir);
	make_folders(dir);
	if (mount(bare, dir, NULL, MS_BIND, NULL) || chdir(dir))
		fail(port, "cannot enter %s: %s", dir, strerror(errno));
}

/*
 * Two idle VMs for as long as the host lives. KVM rewrites kernel code (static keys: preempt notifiers, and vCPUs with
 * no APIC or one switched off) when the first such VM comes and when the last goes, and QEMU's emulation now and then
 * goes on executing the breakpoint that stood there in between: both processors hang for good, about once in a hundred
 * VMs. With these there is never a first or a last one.
 */
static void hold_vms(int port)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		fail(port, "cannot open /dev/kvm: %s", strerror(errno));
#if defined(__x86_64__)
	for (int with_apic = 0; with_apic <= 1; with_apic++) {
		int vm = ioctl(kvm, KVM_CREATE_VM, 0);

		if (vm < 0 || (with_apic && ioctl(vm, KVM_CREATE_IRQCHIP)) || ioctl(vm, KVM_CREATE_VCPU, 0) < 0)
			fail(port, "cannot create a VM: %s", strerror(errno));
	}
#endif
	close(kvm);
}

/*
 * The first processor is not for the command, and so not for guests. In QEMU's emulation, every processor that restores
 * the state of its FPU also writes the first one's flags back as they were, without a lock. If the first one leaves a
 * guest meanwhile, some of those flags stay set: it takes interrupts that are disabled, or translates its own addresses
 * by the guest's nested page tables.
 */
static void leave_first_processor(void)
{
	cpu_set_t set;

#if !defined(__x86_64__)
	return;
#endif
	if (sched_getaffinity(0, sizeof(set), &set) < 0 || CPU_COUNT(&set) < 2)
		return;
	CPU_CLR(0, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static _Noreturn void run_command(const struct job *job, int out, int err)
{
	int null = open("/dev/null", O_RDONLY);
	int code;

	leave_first_processor();

	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	setsid();
	execvpe(job->argv[0], job->argv, job->envp);
	/* The codes of env(1) and the shell. */
	code = errno == ENOENT ? 127 : 126;
	fprintf(stderr, "emuhost: %s: %s\n", job->argv[0], strerror(errno));
	_exit(code);
}

/* Returns 0 once there is nothing to read for now, -1 at the end. */
static int forward(int port, int from, enum frame_type type)
{
	char buf[FRAME_MAX];
	ssize_t n;

	while ((n = read(from, buf, sizeof(buf))) > 0)
		send_frame(port, type, buf, (size_t)n);
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* Reaps whatever has ended; true once that includes the command. */
static int reap(pid_t command, int *status)
{
	int ended = 0, s;
	pid_t pid;

	while ((pid = waitpid(-1, &s, WNOHANG)) > 0) {
		if (pid == command) {
			*status = s;
			ended = 1;
		}
	}
	return ended;
}

static int serve(int port, const struct job *job)
{
	int out[2], err[2], status = 0, ended = 0, sigfd;
	struct signalfd_siginfo info;
	sigset_t chld;
	pid_t command;
	struct timespec now;
	time_t said = 0;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	sigfd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sigfd < 0 || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		fail(port, "cannot make the pipes of the command: %s", strerror(errno));

	command = fork();
	if (command < 0)
		fail(port, "cannot fork: %s", strerror(errno));
	if (command == 0) {
		sigprocmask(SIG_UNBLOCK, &chld, NULL);
		run_command(job, out[1], err[1]);
	}
	close(out[1]);
	close(err[1]);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);

	struct pollfd fds[] = {
	        {.fd = sigfd, .events = POLLIN},
	        {.fd = out[0], .events = POLLIN},
	        {.fd = err[0], .events = POLLIN},
	};

	while (!ended) {
		poll(fds, 3, ALIVE_S * 1000);
		/* Not only when nothing happens: processes that end wake it too, and send nothing. */
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - said >= ALIVE_S) {
			send_frame(port, FRAME_ALIVE, NULL, 0);
			said = now.tv_sec;
		}
		if (fds[0].revents) {
			while (read(sigfd, &info, sizeof(info)) > 0)
				;
			ended = reap(command, &status);
		}
		if ((fds[1].revents || ended) && forward(port, out[0], FRAME_OUT))
			fds[1].fd = -1;
		if ((fds[2].revents || ended) && forward(port, err[0], FRAME_ERR))
			fds[2].fd = -1;
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void release_shared(const struct job *job)
{
	if (chdir("/") || job->n_rw == 0)
		return;
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	for (size_t i = job->n_rw; i-- > 0;)
		umount(job->rw[i]);
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "(no port given)";
	struct job job = {0};
	int32_t code;
	int port = open(path, O_RDWR | O_CLOEXEC);

	if (port < 0) {
		fprintf(stderr, "emuhost: cannot open %s: %s\n", path, strerror(errno));
		return 1; /* the kernel panics, QEMU ends, relay shows this log */
	}
	signal(SIGPIPE, SIG_DFL);
	send_frame(port, FRAME_HELLO, NULL, 0);
	receive_job(port, &job);
	hold_vms(port);
	mount_shared(port, &job);
	enter_folder(port, job.dir);
	code = serve(port, &job);
	release_shared(&job);
	send_frame(port, FRAME_EXIT, &code, sizeof(code));
	halt();
}
