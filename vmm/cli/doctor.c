/* SPDX-License-Identifier: Apache-2.0 */
/* wisp doctor: each check says what it found and, where that is bad, what to do. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "vmm/cli/cli.h"
#include "vmm/cli/doctor_kvm.h"

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

static void check_kvm(struct report *report)
{
	double ns;
	const char *what;
	char found[256];
	int errnum;
	switch (doctor_probe_kvm(&ns, &what, &errnum)) {
	case DOCTOR_KVM_OK:
		snprintf(found, sizeof(found), "/dev/kvm runs guest kernels (%.1f ns a loop)", ns);
		tell(report, "kvm", GOOD, found, "");
		break;
	case DOCTOR_KVM_MISSING:
		tell(report, "kvm", BAD, "there is no /dev/kvm",
		        "load kvm_intel or kvm_amd, enable virtualisation in the firmware, or, in a virtual machine, "
		        "let its host "
		        "nest");
		break;
	case DOCTOR_KVM_DENIED:
		tell(report, "kvm", BAD, "/dev/kvm is not permitted to you",
		        "join its group (usermod -aG kvm USER) and log in again");
		break;
	case DOCTOR_KVM_EMULATED:
		snprintf(found, sizeof(found),
		        "/dev/kvm emulates guest kernel mode (%.0f ns a loop): no kernel boots on it", ns);
		tell(report, "kvm", BAD, found, "use a host with hardware virtualisation");
		break;
	default:
		snprintf(found, sizeof(found), "/dev/kvm does not work: %s: %s", what, strerror(errnum));
		tell(report, "kvm", BAD, found, "see the kernel's log");
	}
}

/* io_uring_setup with no entries: EINVAL where it exists and is allowed. */
static void check_io_uring(struct report *report)
{
	long fd = syscall(SYS_io_uring_setup, 0, NULL);
	int errnum = fd < 0 ? errno : 0;
	if (fd >= 0)
		close((int)fd);
	if (errnum == ENOSYS || errnum == EPERM)
		tell(report, "io_uring", BAD,
		        errnum == ENOSYS ? "the kernel has no io_uring, or a filter hides it"
		                         : "io_uring is not permitted to you",
		        "sysctl -w kernel.io_uring_disabled=0, and allow it in the container's seccomp profile");
	else
		tell(report, "io_uring", GOOD, "io_uring is there", "");
}

static void check_memory(struct report *report)
{
	char found[128], line[256];
	unsigned long long available_mib = 0, kib;
	FILE *meminfo = fopen("/proc/meminfo", "re");
	while (meminfo && fgets(line, sizeof(line), meminfo)) {
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			available_mib = kib / 1024;
	}
	if (meminfo)
		fclose(meminfo);
	snprintf(found, sizeof(found), "%llu MiB of memory are available", available_mib);
	if (available_mib < WISP_MEMORY_MIB_DEFAULT)
		tell(report, "memory", WARNING, found, "a sandbox has 256 MiB by default: free some, or use -m");
	else
		tell(report, "memory", GOOD, found, "");
}

static void check_file(struct report *report, const char *libdir, const char *name, int mode)
{
	char *path;
	struct stat st;
	if (asprintf(&path, "%s/%s", libdir, name) < 0)
		return;
	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && access(path, mode) == 0) {
		tell(report, "files", GOOD, path, "");
	} else {
		char *found;
		if (asprintf(&found, "%s: %s", path, errno ? strerror(errno) : "it is empty") >= 0) {
			tell(report, "files", BAD, found, "install wisp again, or set WISP_LIBDIR");
			free(found);
		}
	}
	free(path);
}

/* Here or in the nearest directory above that exists. */
static void check_state(struct report *report)
{
	char path[4096], found[4200];
	snprintf(path, sizeof(path), "%s", cli_state_root());
	while (access(path, F_OK) < 0 && errno == ENOENT) {
		char *slash = strrchr(path, '/');
		if (!slash)
			break;
		slash[slash == path] = '\0';
	}
	if (access(path, W_OK | X_OK) == 0) {
		snprintf(found, sizeof(found), "sandboxes live in %s", cli_state_root());
		tell(report, "state", GOOD, found, "");
	} else {
		snprintf(found, sizeof(found), "%s cannot be written: %s", path, strerror(errno));
		tell(report, "state", BAD, found, "set XDG_RUNTIME_DIR or WISP_STATE to a directory of yours");
	}
}

static void check_tools(struct report *report)
{
	if (access("/usr/bin/mksquashfs", X_OK) == 0 || access("/usr/local/bin/mksquashfs", X_OK) == 0)
		tell(report, "tools", GOOD, "mksquashfs is there: a directory can be an image", "");
	else
		tell(report, "tools", WARNING, "there is no mksquashfs: a directory cannot be an image",
		        "install squashfs-tools");
}

int cli_doctor(struct cli_args *args)
{
	struct report report = {.json = {.to = stdout}, .as_json = args->json};
	static const char *const data[] = {"vmlinux-up", "vmlinux-smp", "initramfs.cpio", "base.squashfs"};
	const char *libdir = cli_libdir();
	if (report.as_json) {
		cli_json_open(&report.json, NULL, '{');
		cli_json_open(&report.json, "checks", '[');
	}
	check_kvm(&report);
	check_io_uring(&report);
	check_memory(&report);
	check_file(&report, libdir ? libdir : "", "wisp-vmm", X_OK);
	for (size_t i = 0; i < sizeof(data) / sizeof(data[0]); i++)
		check_file(&report, libdir ? libdir : "", data[i], R_OK);
	check_state(&report);
	check_tools(&report);
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
