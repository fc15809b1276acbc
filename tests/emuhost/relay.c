/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outer end of the emulated host: starts QEMU, sends the job, writes the
 * command's output to its own standard output and error, and exits with the
 * command's exit code. See wire.h.
 *
 *   relay TIMEOUT VERBOSE STARTED N_JOB JOB... QEMU ARG...
 *
 * STARTED is when the caller began, in seconds since the epoch. QEMU dies with
 * this process however that ends (PR_SET_PDEATHSIG), and its log is a memfd:
 * nothing is left to clean up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

#define EXIT_TIMEOUT 124
#define EXIT_HOST 125
#define BOOT_LIMIT_S 300.0
#define LOG_TAIL 8192

/* Here because signal handlers read them; set before the handlers are. */
static pid_t qemu;
static int log_fd = -1;
static volatile sig_atomic_t is_up;
static char timeout_text[128];

static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static void say(const char *text)
{
	write_all(STDERR_FILENO, text, strlen(text));
}

static void stop_qemu(void)
{
	kill(qemu, SIGKILL);
	while (waitpid(qemu, NULL, 0) < 0 && errno == EINTR)
		;
}

static void show_log(void)
{
	char buf[1024];
	off_t end = lseek(log_fd, 0, SEEK_END);
	off_t at = end > LOG_TAIL ? end - LOG_TAIL : 0;
	ssize_t n;

	say(end > 0 ? "emuhost: the end of its console log:\n" : "emuhost: its console log is empty\n");
	while ((n = pread(log_fd, buf, sizeof(buf), at)) > 0) {
		write_all(STDERR_FILENO, buf, (size_t)n);
		at += n;
	}
}

/* Handlers use async-signal-safe functions only. */
static void on_alarm(int sig)
{
	(void)sig;
	stop_qemu();
	if (is_up) {
		say(timeout_text);
		_exit(EXIT_TIMEOUT);
	}
	say("emuhost: the emulated host did not come up in 5 minutes\n");
	show_log();
	_exit(EXIT_HOST);
}

static void on_stop(int sig)
{
	stop_qemu();
	signal(sig, SIG_DFL);
	raise(sig);
}

static _Noreturn __attribute__((format(printf, 1, 2))) void host_failed(const char *fmt, ...)
{
	va_list ap;

	stop_qemu();
	fputs("emuhost: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	show_log();
	exit(EXIT_HOST);
}

static double seconds_since(double start)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9 - start;
}

static void set_alarm(double seconds)
{
	struct itimerval timer = {0};

	if (seconds < 0.001)
		seconds = 0.001;
	timer.it_value.tv_sec = (time_t)seconds;
	timer.it_value.tv_usec = (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6);
	setitimer(ITIMER_REAL, &timer, NULL);
}

/* What the command wrote and the caller did not take must not go unnoticed. */
static void pass_on(int fd, const char *data, size_t len)
{
	if (write_all(fd, data, len))
		host_failed("cannot write standard %s: %s", fd == STDOUT_FILENO ? "output" : "error", strerror(errno));
}

static void start_qemu(char **qemu_argv, int n_args, int sock)
{
	char console[64], agent[64];
	char *extra[] = {"-chardev", console, "-serial", "chardev:console", "-chardev", agent, NULL};
	char **argv = calloc((size_t)n_args + 7, sizeof(char *));
	pid_t parent = getpid();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	log_fd = memfd_create("emuhost-log", MFD_CLOEXEC);
	if (log_fd < 0 || null < 0 || !argv || fcntl(log_fd, F_SETFL, O_APPEND)) {
		perror("emuhost: cannot prepare the start of QEMU");
		exit(EXIT_HOST);
	}
	memcpy(argv, qemu_argv, (size_t)n_args * sizeof(char *));
	memcpy(argv + n_args, extra, sizeof(extra));
	/* QEMU opens its own standard error anew, which is the log. */
	snprintf(console, sizeof(console), "file,id=console,path=/dev/fd/2,append=on");
	snprintf(agent, sizeof(agent), "socket,id=agent,fd=%d", sock);

	qemu = fork();
	if (qemu < 0) {
		perror("emuhost: cannot fork");
		exit(EXIT_HOST);
	}
	if (qemu == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(EXIT_HOST);
		dup2(null, STDIN_FILENO);
		dup2(log_fd, STDOUT_FILENO);
		dup2(log_fd, STDERR_FILENO);
		setpgid(0, 0); /* ^C is for relay alone */
		execvp(argv[0], argv);
		perror(argv[0]);
		_exit(EXIT_HOST);
	}
	free(argv);
}

static void send_job(int sock, char **strings, int n)
{
	char clock[32];
	struct timespec now;
	uint32_t len;

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(clock, sizeof(clock), "%c%lld.%09ld", JOB_CLOCK, (long long)now.tv_sec, now.tv_nsec);
	len = (uint32_t)strlen(clock) + 1;
	for (int i = 0; i < n; i++)
		len += (uint32_t)strlen(strings[i]) + 1;
	if (len > JOB_MAX)
		host_failed("the command and its environment are larger than %u bytes", JOB_MAX);
	write_all(sock, (const char *)&len, sizeof(len));
	write_all(sock, clock, strlen(clock) + 1);
	for (int i = 0; i < n; i++)
		write_all(sock, strings[i], strlen(strings[i]) + 1);
}

static void receive(int sock, void *data, size_t len)
{
	struct pollfd readable = {.fd = sock, .events = POLLIN};
	char *p = data;

	while (len > 0) {
		/* Before it is up, BOOT_LIMIT_S holds. */
		if (poll(&readable, 1, is_up ? SILENT_S * 1000 : -1) == 0)
			host_failed("the emulated host has hung: its first process has not run for %d s", SILENT_S);
		ssize_t n = read(sock, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			host_failed("the emulated host ended before %s", is_up ? "the command did" : "it was up");
		p += n;
		len -= (size_t)n;
	}
}

int main(int argc, char **argv)
{
	static char payload[FRAME_MAX + 1];
	const int stops[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	double timeout, started, boot;
	int verbose, n_job, pair[2];
	struct frame head;
	int32_t code;

	if (argc < 6 || (n_job = atoi(argv[4])) < 1 || n_job > argc - 6) {
		fputs("usage: relay TIMEOUT VERBOSE STARTED N_JOB JOB... QEMU ARG...\n", stderr);
		return EXIT_HOST;
	}
	timeout = atof(argv[1]);
	verbose = atoi(argv[2]);
	started = atof(argv[3]);
	snprintf(timeout_text, sizeof(timeout_text), "emuhost: stopped the command after %s s (--timeout)\n", argv[1]);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) {
		perror("emuhost: cannot make a socket pair");
		return EXIT_HOST;
	}
	fcntl(pair[0], F_SETFD, FD_CLOEXEC);
	start_qemu(argv + 5 + n_job, argc - 5 - n_job, pair[1]);
	close(pair[1]);

	signal(SIGALRM, on_alarm);
	for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
		if (signal(stops[i], on_stop) == SIG_IGN)
			signal(stops[i], SIG_IGN); /* nohup */
	set_alarm(BOOT_LIMIT_S);

	for (;;) {
		receive(pair[0], &head, sizeof(head));
		if (head.len > FRAME_MAX)
			host_failed("a frame of %u bytes came: the port is out of step", head.len);
		receive(pair[0], payload, head.len);
		payload[head.len] = '\0';
		switch (head.type) {
		case FRAME_HELLO:
			boot = seconds_since(started);
			is_up = 1;
			set_alarm(timeout);
			if (verbose)
				fprintf(stderr, "emuhost: up after %.2f s\n", boot);
			started += boot;
			send_job(pair[0], argv + 5, n_job);
			break;
		case FRAME_OUT: pass_on(STDOUT_FILENO, payload, head.len); break;
		case FRAME_ERR: pass_on(STDERR_FILENO, payload, head.len); break;
		case FRAME_ALIVE: break;
		case FRAME_FAIL: host_failed("%s", payload);
		case FRAME_EXIT:
			if (head.len != sizeof(code))
				host_failed("an exit code of %u bytes came", head.len);
			memcpy(&code, payload, sizeof(code));
			stop_qemu();
			if (verbose)
				fprintf(stderr, "emuhost: the command ended with %d after %.2f s\n", code,
				        seconds_since(started));
			return code;
		default: host_failed("a frame of unknown type %u came", head.type);
		}
	}
}
