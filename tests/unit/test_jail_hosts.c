/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's jail on hosts that forbid a part of it: what is missing is said, and the rest holds. */
#include <linux/capability.h>
#include <sys/mount.h>

#include "tests/unit/test_jail.h"

/* Where the host refuses namespaces, as Ubuntu's AppArmor rule or a container does. */
static void what_is_forbidden_is_left_out(void)
{
	struct told told = {.ret = 1};
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	if (geteuid() == 0)
		return; /* without a user namespace, it is forbidden by a filter or a lack of capabilities only */
	int status = -1;
	pid_t pid = fork();
	if (pid == 0) {
		/* In a user namespace whose limit is 0, as user.max_user_namespaces sets it. */
		bool limited = unshare(CLONE_NEWUSER) == 0;
		int fd = open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);
		limited = limited && fd >= 0 && write(fd, "0", 1) == 1;
		if (!limited)
			_exit(77);
		struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
		struct __user_cap_data_struct none[2] = {{0}};
		if (syscall(SYS_capset, &head, none) < 0)
			_exit(78);
		told = enter_in_child(WISP_LAYER_ALL, 0);
		printf("# %s\n", told.jail.text);
		fflush(stdout);
		_exit(told.ret != 0 || told.jail.layers & WISP_LAYER_NAMESPACES ||
		        !(told.jail.layers & WISP_LAYER_SECCOMP) ||
		        !strstr(told.jail.text, "without namespaces (No space left"));
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("this host allows no namespaces");
	CHECK_EQ(status, 0);
}

/* As with AppArmor's rule for user namespaces: they are created, but their ids cannot be mapped. */
static int run_without_maps(void)
{
	char own[] = "/tmp/wisp-test-XXXXXX", box[64];
	static const gid_t nobody = 65534;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	        mount("/proc", "/proc", NULL, MS_BIND | MS_REC, NULL) < 0 ||
	        mount(NULL, "/proc", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
		return 77;
	if (setgroups(0, NULL) < 0 || setgid(nobody) < 0 || setuid(nobody) < 0 || !mkdtemp(own))
		return 1;
	prctl(PR_SET_DUMPABLE, 1);
	if (!may_unshare())
		return 77;
	memcpy(root, own, sizeof(root));
	read_namespaces(outside);
	struct told told = enter_in_child(WISP_LAYER_ALL, 0);
	printf("# %s\n", told.jail.text);
	CHECK_EQ(told.ret, 0);
	CHECK(told.jail.layers & WISP_LAYER_NAMESPACES);
	CHECK(strstr(told.jail.text, "namespaces (of a user namespace without ids)"));
	CHECK_EQ(in_jail(WISP_LAYER_NAMESPACES, 0, count_shared), 0);
	snprintf(box, sizeof(box), "%s/box", root);
	CHECK(mkdir(box, 0700) == 0);
	CHECK_EQ(in_jail(WISP_LAYER_ALL, 0, work), 0);
	CHECK(rmdir(root) == 0);
	fflush(stdout);
	return test_failed;
}

static void ids_that_cannot_be_mapped_do_not_matter(void)
{
	int status = -1;
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	if (geteuid() != 0)
		return; /* only root can make /proc read-only, which is how the test keeps the maps away */
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		_exit(run_without_maps());
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("this host allows no namespaces");
	CHECK_EQ(status, 0);
}

/* In a container that has dropped the capability which root needs for the files of others. */
static void a_capability_that_is_missing_is_not_kept(void)
{
	int status = -1;
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	if (geteuid() != 0)
		return;
	REQUIRE(chown(root, 1, 1) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
		struct __user_cap_data_struct data[2];
		if (!strstr(enter_in_child(WISP_LAYER_PRIVILEGES, 0).jail.text, "but CAP_DAC_OVERRIDE") ||
		        syscall(SYS_capget, &head, data) < 0)
			_exit(2);
		data[0].effective = data[0].permitted &= ~(1u << CAP_DAC_OVERRIDE);
		data[0].inheritable = data[1].inheritable = 0;
		if (syscall(SYS_capset, &head, data) < 0)
			_exit(3);
		struct told told = enter_in_child(WISP_LAYER_PRIVILEGES, 0);
		_exit(told.ret != 0 || strncmp(told.jail.text, "privileges, io_uring", 20) != 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK(chown(root, 0, 0) == 0);
}

static const struct test_case cases[] = {
        {"what_is_forbidden_is_left_out", what_is_forbidden_is_left_out},
        {"ids_that_cannot_be_mapped_do_not_matter", ids_that_cannot_be_mapped_do_not_matter},
        {"a_capability_that_is_missing_is_not_kept", a_capability_that_is_missing_is_not_kept},
};

int main(int argc, char **argv)
{
	return run_as_both("jail_hosts", "jail_hosts_of_user", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
