/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what each check found, and what to do about a bad result. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/cli/json.h"
#include "vmm/cli/verbs.h"
#include "vmm/shared/kvm_missing.h"

#define LOGS_MIB 36 /* exec.log, console.log and vmm.log, and the one before each */

enum verdict { GOOD, WARNING, BAD };

struct report {
	struct cli_json json;
	bool as_json;
	bool bad;
};

static void tell(struct report *report, const char *check, enum verdict verdict, const char *found, const char *advice)
{
	static const char *const names[] = {"ok", "warning", "bad"};
	report->bad |= verdict == BAD;
	if (!report->as_json) {
		printf("%-8s %-10s %s%s%s\n", names[verdict], check, found, advice[0] ? ": " : "", advice);
		return;
	}
	cli_json_open(&report->json, NULL, '{');
	cli_json_string(&report->json, "check", check);
	cli_json_string(&report->json, "verdict", names[verdict]);
	cli_json_string(&report->json, "found", found);
	cli_json_string(&report->json, "advice", advice);
	cli_json_close(&report->json, '}');
}

static void tell_kvm(struct report *report, const struct wisp_host_info *host)
{
	const struct kvm_missing missing = kvm_missing_find();
	char found[256];
	switch (host->kvm) {
	case WISP_KVM_OK:
		snprintf(found, sizeof(found), "/dev/kvm runs guest kernels (%.1f ns a loop)", host->kvm_loop_ns);
		tell(report, "kvm", GOOD, found, "");
		break;
	case WISP_KVM_MISSING: tell(report, "kvm", BAD, "there is no /dev/kvm", kvm_missing_advice(&missing)); break;
	case WISP_KVM_DENIED:
		tell(report, "kvm", BAD, "you may not open /dev/kvm", kvm_denied_advice(host->kvm_errnum));
		break;
	case WISP_KVM_EMULATED:
		snprintf(found, sizeof(found),
		        "/dev/kvm emulates guest kernel mode (%.0f ns a loop), so no kernel boots on it",
		        host->kvm_loop_ns);
		tell(report, "kvm", BAD, found, "use a host with hardware virtualization");
		break;
	default:
		snprintf(found, sizeof(found), "/dev/kvm does not work: %s: %s", host->kvm_failed,
		        strerror(host->kvm_errnum));
		tell(report, "kvm", BAD, found, "see the kernel's log");
	}
}

static void tell_io_uring(struct report *report, const struct wisp_host_info *host)
{
	switch (host->io_uring) {
	case WISP_IO_URING_OK: tell(report, "io_uring", GOOD, "io_uring is available", ""); break;
	case WISP_IO_URING_OLD:
		tell(report, "io_uring", WARNING,
		        "the kernel's io_uring is too old: the monitor uses epoll, which is slower",
		        "use Linux 5.19 or later");
		break;
	default:
		tell(report, "io_uring", WARNING,
		        host->io_uring == WISP_IO_URING_MISSING
		                ? "the kernel has no io_uring, or a filter hides it: the monitor uses epoll, which is "
		                  "slower"
		                : "you may not use io_uring: the monitor uses epoll, which is slower",
		        "sysctl -w kernel.io_uring_disabled=0, and allow it in the container's seccomp profile");
	}
}

static void tell_memory(struct report *report, const struct wisp_host_info *host)
{
	char found[128];
	snprintf(found, sizeof(found), "%llu MiB of memory are available",
	        (unsigned long long)host->memory_available_mib);
	if (host->memory_available_mib < WISP_MEMORY_MIB_DEFAULT)
		tell(report, "memory", WARNING, found, "a sandbox has 256 MiB by default; free some memory, or use -m");
	else
		tell(report, "memory", GOOD, found, "");
}

static void tell_tools(struct report *report, const struct wisp_host_info *host)
{
	if (host->mksquashfs)
		tell(report, "tools", GOOD, "mksquashfs is installed: a directory can be an image", "");
	else
		tell(report, "tools", WARNING, "mksquashfs is not installed: a directory cannot be an image",
		        "install squashfs-tools");
}

static void check_file(struct report *report, const char *libdir, const char *name, int mode)
{
	char *path, *found;
	struct stat st;
	if (asprintf(&path, "%s/%s", libdir, name) < 0)
		return;
	errno = 0;
	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && access(path, mode) == 0) {
		tell(report, "files", GOOD, path, "");
	} else if (errno == ENOENT && strcmp(name, "vmlinux-smp") == 0) {
		if (asprintf(&found, "%s is not built: a sandbox has one processor", path) >= 0) {
			tell(report, "files", WARNING, found,
			        "run make guest in wisp's source, and install wisp again");
			free(found);
		}
	} else if (asprintf(&found, "%s: %s", path, errno ? strerror(errno) : "it is empty") >= 0) {
		tell(report, "files", BAD, found, "install wisp again, or set WISP_LIBDIR");
		free(found);
	}
	free(path);
}

/* What the library does in a sandbox's directory. Returns what fails, with errno, or NULL. */
static const char *try_directory(int dir)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int file = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	const char *failed = file < 0 ? "create files" : NULL;
	if (!failed && (flock(file, LOCK_EX | LOCK_NB) < 0 || fcntl(file, F_SETLK, &lock) < 0))
		failed = "lock files";
	int server = failed ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/socket", dir);
	if (server >= 0 && bind(server, (struct sockaddr *)&address, sizeof(address)) < 0)
		failed = "create Unix sockets";
	int errnum = errno;
	if (server >= 0)
		close(server);
	if (file >= 0)
		close(file);
	unlinkat(dir, "socket", 0);
	unlinkat(dir, "lock", 0);
	errno = errnum;
	return failed;
}

/* Some file systems, such as those of shared folders, lack what a sandbox needs. */
static const char *try_file_system(const char *existing)
{
	char path[PATH_MAX + 16];
	snprintf(path, sizeof(path), "%s/.wisp-XXXXXX", existing);
	if (!mkdtemp(path))
		return "create directories";
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *failed = dir < 0 ? "open directories" : try_directory(dir);
	int errnum = errno;
	if (dir >= 0)
		close(dir);
	rmdir(path);
	errno = errnum;
	return failed;
}

static void check_state(struct report *report, const char *state_root)
{
	char existing[PATH_MAX], found[PATH_MAX + 200];
	struct statvfs fs;
	if (!cli_may_keep_state(state_root, existing)) {
		snprintf(found, sizeof(found), "%s is not writable: %s", existing, strerror(errno));
		tell(report, "state", BAD, found, CLI_PLACE_ADVICE);
		return;
	}
	const char *failed = try_file_system(existing);
	uint64_t free_mib = UINT64_MAX;
	if (failed) {
		snprintf(found, sizeof(found), "wisp cannot %s in %s: %s", failed, existing, strerror(errno));
		tell(report, "state", BAD, found, "set WISP_STATE to a directory on a local disk or a tmpfs");
		return;
	}
	if (statvfs(existing, &fs) == 0)
		free_mib = (uint64_t)fs.f_bavail * fs.f_frsize >> 20;
	if (strncmp(state_root, "/run/user/", strlen("/run/user/")) == 0) {
		snprintf(found, sizeof(found), "sandboxes are kept in %s, which is deleted when you log out",
		        state_root);
		tell(report, "state", WARNING, found, "set WISP_STATE to a directory that stays");
	} else if (free_mib < LOGS_MIB) {
		snprintf(found, sizeof(found), "%s has %llu MiB left, and a sandbox's logs take up to %d MiB", existing,
		        (unsigned long long)free_mib, LOGS_MIB);
		tell(report, "state", WARNING, found, "free some space, or set WISP_STATE to another directory");
	} else {
		snprintf(found, sizeof(found), "sandboxes are kept in %s", state_root);
		tell(report, "state", GOOD, found, "");
	}
}

/* Asks the monitor, which enters its jail for this. Returns whether it answered: what holds, and what it says of it. */
static bool ask_monitor(const char *libdir, unsigned *layers, char *text, size_t size)
{
	char path[PATH_MAX], line[512] = "", option[] = "--check-jail";
	char *const argv[] = {path, option, NULL}, *const envp[] = {NULL};
	posix_spawn_file_actions_t actions;
	int ends[2], status = -1, at = 0;
	pid_t pid;
	if (snprintf(path, sizeof(path), "%s/wisp-vmm", libdir) >= (int)sizeof(path) || pipe2(ends, O_CLOEXEC) < 0)
		return false;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	int r = posix_spawn(&pid, path, &actions, NULL, argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	FILE *from = fdopen(ends[0], "r");
	bool read = from && fgets(line, sizeof(line), from);
	if (from)
		fclose(from);
	else
		close(ends[0]);
	while (r == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	line[strcspn(line, "\n")] = '\0';
	if (r != 0 || status != 0 || !read || sscanf(line, "%x %n", layers, &at) != 1)
		return false;
	snprintf(text, size, "%s", line + at);
	return true;
}

/* A layer that is missing weakens the jail, and sandboxes run all the same. */
static void check_jail(struct report *report, const char *libdir)
{
	static const struct {
		enum wisp_jail_layer layer;
		const char *advice;
	} layers[] = {
	        {WISP_LAYER_NAMESPACES,
	                "allow user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, "
	                "user.max_user_namespaces above 0, and the container's seccomp profile"},
	        {WISP_LAYER_LANDLOCK, "use Linux 5.13 or later with landlock in the kernel's parameter lsm=; until "
	                              "then, root should set "
	                              "WISP_STATE to a directory of another user"},
	        {WISP_LAYER_SECCOMP, "use a kernel with CONFIG_SECCOMP_FILTER"},
	};
	char text[512], found[600];
	unsigned holds = 0;
	if (!ask_monitor(libdir, &holds, text, sizeof(text))) {
		tell(report, "jail", WARNING, "wisp-vmm --check-jail does not tell what holds", "install wisp again");
		return;
	}
	const char *advice = "";
	for (size_t i = sizeof(layers) / sizeof(layers[0]); i-- > 0;) {
		if (!(holds & layers[i].layer))
			advice = layers[i].advice;
	}
	snprintf(found, sizeof(found), "%s: %s",
	        holds == WISP_LAYER_ALL ? "every layer of the monitor's jail holds"
	                                : "not every layer of the monitor's jail holds",
	        text);
	tell(report, "jail", holds == WISP_LAYER_ALL ? GOOD : WARNING, found, advice);
}

/* The last KillUserProcesses= of a file of logind's configuration; `before` if there is none. */
static bool read_kills(const char *path, bool before)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	char line[256], value[16];
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, " KillUserProcesses = %15[a-z0-9]", value) != 1)
			continue;
		before = false;
		for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
			before |= strcmp(value, yes[i]) == 0;
	}
	if (file)
		fclose(file);
	return before;
}

/* A sandbox stays in the session of the login that created it, and logind may kill what is left of that. */
static void check_logout(struct report *report)
{
	static const char *const patterns[] = {"/usr/lib/systemd/logind.conf", "/etc/systemd/logind.conf",
	        "/usr/lib/systemd/logind.conf.d/*.conf", "/run/systemd/logind.conf.d/*.conf",
	        "/etc/systemd/logind.conf.d/*.conf"};
	const char *user = getenv("USER");
	char linger[300];
	bool kills = false;
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		glob_t files;
		if (glob(patterns[i], 0, NULL, &files) != 0)
			continue;
		for (size_t k = 0; k < files.gl_pathc; k++)
			kills = read_kills(files.gl_pathv[k], kills);
		globfree(&files);
	}
	snprintf(linger, sizeof(linger), "/var/lib/systemd/linger/%s", user ? user : "");
	/* logind spares root. */
	if (geteuid() != 0 && kills && (!user || !user[0] || access(linger, F_OK) < 0))
		tell(report, "logout", WARNING, "logind kills your sandboxes when you log out (KillUserProcesses=yes)",
		        "run `loginctl enable-linger`, and create them with `systemd-run --user --scope wisp create`");
}

static int doctor(const struct cli_call *call)
{
	const struct cli_output *options = call->options;
	struct report report = {.json = {.to = stdout}, .as_json = options->json};
	static const char *const data[] = {"vmlinux-up", "vmlinux-smp", "initramfs.cpio", "base.squashfs"};
	struct wisp_host_info host = {.size = sizeof(host)};
	struct wisp_error error;
	if (wisp_check_host(&host, &error) < 0)
		return cli_fail_error(&error);
	if (report.as_json) {
		cli_json_open(&report.json, NULL, '{');
		cli_json_open(&report.json, "checks", '[');
	}
	tell_kvm(&report, &host);
	tell_io_uring(&report, &host);
	tell_memory(&report, &host);
	check_file(&report, call->places->libdir, "wisp-vmm", X_OK);
	for (size_t i = 0; i < sizeof(data) / sizeof(data[0]); i++)
		check_file(&report, call->places->libdir, data[i], R_OK);
	check_jail(&report, call->places->libdir);
	check_state(&report, call->places->state_root);
	check_logout(&report);
	tell_tools(&report, &host);
	if (report.as_json) {
		cli_json_close(&report.json, ']');
		cli_json_bool(&report.json, "ok", !report.bad);
		cli_json_close(&report.json, '}');
		putchar('\n');
	} else {
		puts(report.bad ? "This host cannot run sandboxes." : "This host can run sandboxes.");
	}
	return report.bad ? 1 : 0;
}

const struct cli_verb cli_doctor = {
        .name = "doctor",
        .synopsis = "",
        .summary = "Check whether this host can run sandboxes, and say what to do if not",
        .details = "The exit code is 0 if this host can run sandboxes, else 1.",
        .groups = cli_output_groups,
        .options_size = sizeof(struct cli_output),
        .run = doctor,
};
