/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of libwisp and the wisp command share: a directory that looks like a running sandbox, served by the
 * guest's agent on this machine (tests/agent/agent_host.c), and a monitor without a machine (fake_vmm), which is the
 * test program itself.
 */
#ifndef WISP_TEST_LIB_H
#define WISP_TEST_LIB_H

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/fail_call.h"
#include "tests/unit/test.h"
#include "tests/unit/test_manage.h"
#include "vmm/shared/description.h"
#include "vmm/shared/sandbox_files.h"
#include "wisp.h"

#define UNUSED __attribute__((unused))

/* A file of the build, relative to the test program's directory. */
UNUSED static const char *built(const char *relative, char path[PATH_MAX])
{
	char self[PATH_MAX - 64];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[length > 0 ? length : 0] = '\0';
	char *slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	snprintf(path, PATH_MAX, "%s/%s", self, relative);
	return path;
}

UNUSED static void write_file(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *file = fopen(path, "w");
	if (!file || fputs(text, file) < 0 || fclose(file) != 0)
		abort();
}

UNUSED static void read_text(const char *dir, const char *name, char *text, size_t size)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *file = fopen(path, "r");
	size_t n = file ? fread(text, 1, size - 1, file) : 0;
	text[n] = '\0';
	if (file)
		fclose(file);
}

UNUSED static void remove_all(const char *dir)
{
	char command[PATH_MAX + 16];
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (system(command) != 0)
		printf("# cannot remove %s\n", dir);
}

UNUSED static int count_entries(const char *dir)
{
	char command[PATH_MAX + 32], text[16] = "";
	snprintf(command, sizeof(command), "ls -A '%s' 2>/dev/null | wc -l", dir);
	FILE *pipe = popen(command, "r");
	if (!pipe || !fgets(text, sizeof(text), pipe))
		return -1;
	pclose(pipe);
	return atoi(text);
}

UNUSED static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

UNUSED static void sleep_ms(int ms)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	nanosleep(&pause, NULL);
}

/* Starts the agent for a directory and waits until it serves. */
UNUSED static pid_t start_agent(const char *dir)
{
	char program[PATH_MAX], word[8];
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		abort();
	built("../agent_host", program);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], 1);
		execl(program, program, dir, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	ssize_t n = read(ends[0], word, sizeof(word));
	close(ends[0]);
	if (n > 0)
		return pid;
	waitpid(pid, NULL, 0);
	return -1;
}

/* ---- A sandbox that runs, as far as the library can tell ---- */

struct fixture {
	char root[64];
	char dir[80];
	int lock_fd;
	pid_t agent;
	struct wisp_sandbox *sandbox;
};

/* The directory without anything that serves it. */
UNUSED static bool fixture_dir(struct fixture *f, const char *config)
{
	*f = (struct fixture){.lock_fd = -1, .agent = -1};
	snprintf(f->root, sizeof(f->root), "/tmp/wisp-test-XXXXXX");
	if (!mkdtemp(f->root))
		return false;
	snprintf(f->dir, sizeof(f->dir), "%s/box", f->root);
	mkdir(f->dir, 0700);
	char path[PATH_MAX], text[4096];
	snprintf(text, sizeof(text), "%s%s", SANDBOX_FILES_MAGIC, config);
	write_file(f->dir, "config", text);
	snprintf(path, sizeof(path), "%s/config", f->dir);
	chmod(path, 0600);
	write_file(f->dir, "state", "ready jail=0x15 engine=2\n");
	snprintf(path, sizeof(path), "%s/lock", f->dir);
	f->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return f->lock_fd >= 0 && flock(f->lock_fd, LOCK_EX) == 0;
}

UNUSED static void fixture_end(struct fixture *f)
{
	wisp_close_sandbox(f->sandbox);
	if (f->agent > 0) {
		kill(f->agent, SIGTERM);
		waitpid(f->agent, NULL, 0);
	}
	if (f->lock_fd >= 0)
		close(f->lock_fd);
	remove_all(f->root);
}

UNUSED static bool fixture_start(struct fixture *f, const char *config)
{
	struct wisp_error error;
	if (!fixture_dir(f, config))
		return false;
	f->agent = start_agent(f->dir);
	if (f->agent < 0)
		printf("# cannot start agent_host\n");
	else if (wisp_open_sandbox(f->root, "box", &f->sandbox, &error) < 0)
		printf("# %s\n", error.message);
	if (f->sandbox)
		return true;
	fixture_end(f);
	return false;
}

/* ---- A monitor without a machine ---- */

/*
 * Obeys wisp-vmm's contract. What becomes of the guest is in the name of the kernel's file: fake-ready (the agent
 * serves), fake-hang, fake-panic, fake-error, fake-die (says nothing), fake-stubborn (ready, and deaf to SIGTERM),
 * fake-unsaved (ready, and dies of a snapshot).
 */
struct fake_vmm {
	struct description description;
	struct description_fds fds;
	char dir[PATH_MAX];
	bool detach, ephemeral;
	int status_fd;
	pid_t agent;
	struct fake_manage manage;
};

UNUSED static void fake_note(const struct fake_vmm *vmm, const char *line)
{
	write_file(vmm->dir, "state.new", line);
	char from[PATH_MAX], to[PATH_MAX];
	snprintf(from, sizeof(from), "%s/state.new", vmm->dir);
	snprintf(to, sizeof(to), "%s/state", vmm->dir);
	rename(from, to);
}

UNUSED static void fake_say(const struct fake_vmm *vmm, const char *line)
{
	fake_note(vmm, line);
	if (send(vmm->status_fd, line, strlen(line), MSG_NOSIGNAL) < 0)
		return;
}

/* In this process: an rm that outlives a killed monitor would delete what the next sandbox of the name has. */
UNUSED static void fake_remove(const char *path)
{
	struct dirent *entry;
	DIR *dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

UNUSED static _Noreturn void fake_end(const struct fake_vmm *vmm, const char *line)
{
	if (vmm->agent > 0) {
		kill(vmm->agent, SIGTERM);
		waitpid(vmm->agent, NULL, 0);
	}
	fake_say(vmm, line);
	if (vmm->ephemeral)
		fake_remove(vmm->dir);
	_exit(0);
}

UNUSED static bool kernel_is(const struct fake_vmm *vmm, const char *name)
{
	return strstr(vmm->description.kernel_name, name) != NULL;
}

UNUSED static _Noreturn void fake_serve(struct fake_vmm *vmm);

/* What its creator asked for, for the tests to see; and where it is. */
UNUSED static void fake_settle(struct fake_vmm *vmm)
{
	char link[32];
	/* The agent must not hold the lock or the socket after the monitor's death. */
	fcntl(vmm->fds.lock, F_SETFD, FD_CLOEXEC);
	fcntl(vmm->status_fd, F_SETFD, FD_CLOEXEC);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", vmm->fds.dir);
	memset(vmm->dir, 0, sizeof(vmm->dir));
	if (readlink(link, vmm->dir, sizeof(vmm->dir) - 1) < 0)
		_exit(125);
	vmm->detach = vmm->description.flags & DESCRIPTION_DETACH;
	vmm->ephemeral = vmm->description.flags & DESCRIPTION_EPHEMERAL;
	int fd = openat(vmm->fds.dir, "description", O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || write(fd, &vmm->description, sizeof(vmm->description)) < 0)
		_exit(125);
	close(fd);
}

/* The child is the monitor of another sandbox, of which it learns on the connection. */
UNUSED static void fake_fork(struct fake_vmm *vmm, size_t i)
{
	char why[200];
	int fd = vmm->manage.fds[i];
	fake_reply(fd, 0, NULL);
	if (fork() > 0) {
		fake_drop(&vmm->manage, i);
		return;
	}
	for (size_t j = 0; j < vmm->manage.count; j++)
		if (j != i)
			close(vmm->manage.fds[j]);
	close(vmm->manage.listener);
	close(vmm->status_fd);
	description_close_fds(&vmm->fds);
	vmm->status_fd = fd;
	vmm->agent = -1;
	if (description_receive(fd, &vmm->description, &vmm->fds, why, sizeof(why)) < 0)
		_exit(125);
	fake_settle(vmm);
	fake_serve(vmm);
}

UNUSED static void fake_note_pause(const void *owner)
{
	const struct fake_vmm *vmm = owner;
	fake_note(vmm, vmm->manage.template ? "template\n"
	               : vmm->manage.paused ? "paused jail=0x15 engine=2\n"
	                                    : "ready jail=0x15 engine=2\n");
}

UNUSED static void fake_manage_serve(struct fake_vmm *vmm, const struct pollfd *pfds, size_t count)
{
	for (size_t i = count; i-- > 1;)
		if (pfds[i].revents && fake_answer(&vmm->manage, i - 1))
			fake_fork(vmm, i - 1);
	if (pfds[0].revents && vmm->manage.count < FAKE_CONNECTIONS)
		vmm->manage.fds[vmm->manage.count++] = accept4(vmm->manage.listener, NULL, NULL, SOCK_CLOEXEC);
}

UNUSED static _Noreturn void fake_serve(struct fake_vmm *vmm)
{
	sigset_t set;
	bool template = vmm->description.flags & DESCRIPTION_TEMPLATE;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGXFSZ, SIG_IGN);
	int signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (fcntl(vmm->fds.lock, F_SETLK, &lock) < 0)
		_exit(1);
	write_file(vmm->dir, "console.log", "Linux version 0\n");
	if (kernel_is(vmm, "fake-error"))
		fake_end(vmm, "error the kernel is fake\n");
	if (kernel_is(vmm, "fake-panic"))
		fake_end(vmm, "exit panic Attempted to kill init!\n");
	if (kernel_is(vmm, "fake-die"))
		_exit(3);
	vmm->manage = (struct fake_manage){.listener = fake_listen(vmm->dir),
	        .paused = template,
	        .template = template,
	        .changed = fake_note_pause,
	        .unsaved = kernel_is(vmm, "fake-unsaved"),
	        .owner = vmm};
	if (template)
		fake_say(vmm, "template\n");
	else if (!kernel_is(vmm, "fake-hang")) {
		vmm->agent = start_agent(vmm->dir);
		fake_say(vmm, vmm->agent > 0 ? "ready jail=0x15 engine=2\n" : "error no agent_host\n");
	}
	bool owned = !vmm->detach;
	for (;;) {
		struct pollfd pfds[3 + FAKE_CONNECTIONS] = {{.fd = vmm->status_fd, .events = POLLIN},
		        {.fd = signals, .events = POLLIN}, {.fd = vmm->manage.listener, .events = POLLIN}};
		size_t count = 3;
		for (size_t i = 0; i < vmm->manage.count; i++)
			pfds[count++] = (struct pollfd){.fd = vmm->manage.fds[i], .events = POLLIN};
		struct signalfd_siginfo info;
		char byte, text[16];
		poll(pfds, count, -1);
		fake_manage_serve(vmm, pfds + 2, count - 2);
		if (pfds[0].revents && recv(vmm->status_fd, &byte, 1, MSG_DONTWAIT) <= 0) {
			if (owned || (vmm->agent <= 0 && !template))
				fake_end(vmm, "exit killed its owner is gone\n");
			close(vmm->status_fd);
			vmm->status_fd = -1;
		}
		if (!(pfds[1].revents & POLLIN) || read(signals, &info, sizeof(info)) != sizeof(info))
			continue;
		if (info.ssi_signo == SIGTERM && info.ssi_code == SI_QUEUE)
			write_file(vmm->dir, "grace", (snprintf(text, sizeof(text), "%d", info.ssi_int), text));
		if (info.ssi_signo == SIGTERM && !kernel_is(vmm, "fake-stubborn"))
			fake_end(vmm, "exit poweroff powered off\n");
		if (info.ssi_signo == SIGCHLD && vmm->agent > 0 && waitpid(vmm->agent, NULL, WNOHANG) == vmm->agent) {
			vmm->agent = -1;
			fake_end(vmm, "exit poweroff the guest powered off\n");
		}
	}
}

/* Does not return where the program was started as a monitor. */
UNUSED static void fake_vmm_main(int argc, char **argv)
{
	static struct fake_vmm vmm;
	char why[200];
	size_t length = argc == 1 ? strlen(argv[0]) : 0;
	if (length < 8 || strcmp(argv[0] + length - 8, "wisp-vmm") != 0)
		return;
	vmm.agent = -1;
	vmm.status_fd = DESCRIPTION_SOCKET_FD;
	if (description_receive(vmm.status_fd, &vmm.description, &vmm.fds, why, sizeof(why)) < 0) {
		fprintf(stderr, "fake monitor: %s\n", why);
		_exit(125);
	}
	fake_settle(&vmm);
	if (vmm.detach && fork() > 0)
		_exit(0);
	fake_serve(&vmm);
}

/* A libdir with the fake monitor: files that exist are all it needs, and an image that is one. */
UNUSED static bool make_libdir(const char *dir)
{
	char self[PATH_MAX], path[PATH_MAX];
	static const char *const kernels[] = {"vmlinux-up", "vmlinux-smp", "fake-ready", "fake-hang", "fake-panic",
	        "fake-error", "fake-die", "fake-stubborn", "fake-unsaved", "initramfs.cpio"};
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (length <= 0 || mkdir(dir, 0700) < 0)
		return false;
	self[length] = '\0';
	snprintf(path, sizeof(path), "%s/wisp-vmm", dir);
	if (symlink(self, path) < 0)
		return false;
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
		write_file(dir, kernels[i], "fake\n");
	/* A squashfs 4.0 of 4096 bytes: zstd, blocks of 128 KiB. */
	unsigned char super[4096] = {'h', 's', 'q', 's', [14] = 2, [20] = 6, [22] = 17, [28] = 4, [41] = 0x10};
	snprintf(path, sizeof(path), "%s/base.squashfs", dir);
	FILE *file = fopen(path, "w");
	return file && fwrite(super, 1, sizeof(super), file) == sizeof(super) && fclose(file) == 0;
}

#endif
