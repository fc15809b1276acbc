/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's jail on hosts that forbid a part of it: what is missing is said, and the rest holds. */
#include <linux/capability.h>
#include <sys/mount.h>

#include "tests/unit/test_jail.h"
#include "vmm/shared/confine.h"

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

#define OWNER 4242u

/* Started by root in the state directory of another user. */
static int left_root(void)
{
	uid_t uids[3];
	gid_t gids[3], groups[2];
	struct stat kvm;
	if (getresuid(&uids[0], &uids[1], &uids[2]) < 0 || getresgid(&gids[0], &gids[1], &gids[2]) < 0)
		return 1;
	for (int i = 0; i < 3; i++) {
		if (uids[i] != OWNER || gids[i] != OWNER)
			return 2;
	}
	/* Clones open the device. */
	int count = getgroups(2, groups);
	if (count != 1 || groups[0] != (stat("/dev/kvm", &kvm) == 0 ? kvm.st_gid : OWNER))
		return 3;
	if (confine_permitted() != 0)
		return 4;
	return open("/etc/shadow", O_RDONLY) >= 0 || errno != EACCES ? 5 : 0;
}

static void root_becomes_the_directorys_owner(void)
{
	char box[64];
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	if (geteuid() != 0)
		return;
	REQUIRE(chown(root, OWNER, OWNER) == 0);
	CHECK_EQ(in_jail(WISP_LAYER_PRIVILEGES, 0, left_root), 0);
	struct told told = enter_in_child(WISP_LAYER_ALL, 0);
	CHECK_EQ(told.ret, 0);
	if (!strstr(told.jail.text, "privileges (as user 4242)"))
		printf("# %s\n", told.jail.text);
	CHECK(strstr(told.jail.text, "privileges (as user 4242)"));
	snprintf(box, sizeof(box), "%s/box", root);
	CHECK(mkdir(box, 0700) == 0 && chown(box, OWNER, OWNER) == 0);
	CHECK_EQ(in_jail(WISP_LAYER_ALL, 0, work), 0);
	CHECK(chown(root, 0, 0) == 0);
}

/* A root that may not change its user, as in a container without CAP_SETUID, does not stay what it is. */
static void a_root_that_cannot_is_refused(void)
{
	if (sanitized)
		SKIP("a build with sanitizers has no jail");
	if (geteuid() != 0)
		return;
	REQUIRE(chown(root, OWNER, OWNER) == 0);
	int status = -1;
	pid_t pid = fork();
	if (pid == 0) {
		(void)confine_capabilities(confine_permitted() & ~(1u << CAP_SETUID));
		struct told told = enter_in_child(WISP_LAYER_PRIVILEGES, 0);
		_exit(told.ret != -EPERM || !strstr(told.err.text, "cannot become user 4242"));
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK(chown(root, 0, 0) == 0);
}

static const struct test_case cases[] = {
        {"what_is_forbidden_is_left_out", what_is_forbidden_is_left_out},
        {"ids_that_cannot_be_mapped_do_not_matter", ids_that_cannot_be_mapped_do_not_matter},
        {"root_becomes_the_directorys_owner", root_becomes_the_directorys_owner},
        {"a_root_that_cannot_is_refused", a_root_that_cannot_is_refused},
};

int main(int argc, char **argv)
{
	return run_as_both("jail_hosts", "jail_hosts_of_user", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
