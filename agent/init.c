/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/init.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/if.h>

#include "agent/folders.h"
#include "agent/hosts.h"
#include "agent/rootfs.h"

#define LEVEL_CRITICAL 2 /* the monitor's loglevel=3 lets it through to the console */
#define LEVEL_WARNING 4

static void log_line(int level, const char *line)
{
	char text[640];
	int length = snprintf(text, sizeof(text), "<%d>wisp-agent: %s\n", level, line);
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (length >= (int)sizeof(text))
		length = sizeof(text) - 1;
	ssize_t written = write(fd, text, (size_t)length);
	(void)written; /* there is nobody left to tell */
	close(fd);
}

void init_log(const char *line)
{
	log_line(LEVEL_WARNING, line);
}

/*
 * The kernel prints a critical line before write() returns, whatever the console is. Through /dev/console, all but the
 * first byte would wait for an interrupt of the serial port, which has none, and the machine is about to end.
 */
void init_fail(const char *format, ...)
{
	char line[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	log_line(LEVEL_CRITICAL, line);
}

struct mount_point {
	const char *type, *path, *data;
	unsigned long flags;
	mode_t mode; /* of the folder, should it have to be made */
};

static void mount_one(const struct mount_point *point)
{
	char line[256];
	mkdir(point->path, point->mode);
	if (mount(point->type, point->path, point->type, point->flags, point->data) == 0)
		return;
	snprintf(line, sizeof(line), "cannot mount %s on %s: %s", point->type, point->path, strerror(errno));
	init_log(line);
}

/*
 * The file systems in memory may hold three quarters of it together (with that of rootfs.c, which has a half): so a
 * program that fills them gets ENOSPC, and enough is left to run.
 */
static void mount_usual(void)
{
	static const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	const struct mount_point points[] = {
	        {"proc", "/proc", NULL, plain, 0555},
	        {"sysfs", "/sys", NULL, plain, 0555},
	        {"cgroup2", "/sys/fs/cgroup", NULL, plain, 0555},
	        {"devpts", "/dev/pts", "mode=0620,gid=5,ptmxmode=0666", MS_NOSUID | MS_NOEXEC, 0755},
	        {"tmpfs", "/dev/shm", "mode=1777,size=20%", MS_NOSUID | MS_NODEV, 01777},
	        {"mqueue", "/dev/mqueue", NULL, plain, 01777},
	        {"tmpfs", "/run", "mode=0755,size=5%", MS_NOSUID | MS_NODEV, 0755},
	};
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		mount_one(&points[i]);
}

/* What every program expects and devtmpfs does not make. */
static void make_links(void)
{
	static const char *const links[][2] = {
	        {"/proc/self/fd", "/dev/fd"},
	        {"/proc/self/fd/0", "/dev/stdin"},
	        {"/proc/self/fd/1", "/dev/stdout"},
	        {"/proc/self/fd/2", "/dev/stderr"},
	};
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
			init_log("cannot make the links in /dev");
	/* Of a folder that the image has, the mode is its business. */
	if (mkdir("/tmp", 01777) == 0)
		chmod("/tmp", 01777); /* whatever the umask */
}

static void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return; /* a kernel without networking */
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		init_log("cannot set lo up");
	close(fd);
}

/* 0 to 2 are closed where the kernel found no console; nothing else may come to be one of them. */
static void open_standard(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 2);
	if (fd > 2)
		close(fd);
}

/*
 * A kernel for one processor runs on a machine with several and leaves the others idle. The user asked for several, so
 * that is an error, not a slow guest. 0 or -errno.
 */
static int check_cpus(long wanted)
{
	cpu_set_t set;
	int online = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;
	if (online == 0 || online >= wanted)
		return 0;
	init_fail(
	        "the machine has %ld processors, but the kernel uses %d: use a kernel for several processors, or -c %d",
	        wanted, online, online);
	return -ENODEV;
}

const struct identity_files init_identity = {
        .random = "/dev/urandom",
        .generation = "/run/wisp/generation",
        .hosts = "/etc/hosts",
        .machine_ids = {"/etc/machine-id", "/var/lib/dbus/machine-id"},
};

/* Programs look here for whether the machine is still the one that they know. */
static void write_generation(void)
{
	uint8_t generation[16];
	mkdir("/run/wisp", 0755);
	/* It must not wait: a boot may be over before the kernel trusts its random numbers. */
	if (getrandom(generation, sizeof(generation), GRND_INSECURE) != sizeof(generation) ||
	        identity_write_generation(&init_identity, generation))
		init_log("cannot write /run/wisp/generation");
}

int init_guest(const struct init_options *options, struct folders *folders, int *over_fd)
{
	umask(022);
	mkdir("/dev", 0755);
	/* EBUSY: the kernel has done it. */
	if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") < 0 && errno != EBUSY) {
		int error = errno;
		init_fail("cannot mount devtmpfs on /dev: %s", strerror(error));
		return -error;
	}
	open_standard();
	int error = check_cpus(options->cpus);
	if (error)
		return error;
	error = rootfs_enter(options->root, options->read_only, options->overlay, over_fd);
	if (error)
		return error;
	mount_usual();
	make_links();
	for (unsigned i = 0; i < options->folder_count && !error; i++)
		error = folder_mount(folders, i, options->folders[i]);
	if (error)
		return error;
	loopback_up();
	write_generation();
	if (options->host && sethostname(options->host, strlen(options->host)) < 0)
		init_log("cannot set the host name");
	if (options->host && hosts_add("/etc/hosts", options->host) < 0)
		init_log("cannot add the host name to /etc/hosts");
	/*
	 * Programs must not have CAP_SYS_BOOT: reboot(2) by one of them would halt the machine at once, with nothing
	 * synced and nobody told. They send PID 1 a signal instead, as busybox does. The bounding set is what execve
	 * lets them gain; the agent itself executes nothing and keeps the capability.
	 */
	if (prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT) < 0)
		init_log("cannot keep reboot(2) from programs");
	return 0;
}

void init_undo(int over_fd)
{
	rootfs_leave(over_fd);
}
