/* SPDX-License-Identifier: Apache-2.0 */
/* wisp_check_host: what it finds, and the versions of its structure. */
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/unit/test_lib.h"
#include "vmm/shared/engine.h"
#include "vmm/shared/kvm_missing.h"

static void this_host(void)
{
	struct wisp_host_info host = {.size = sizeof(host)};
	struct wisp_error error;
	REQUIRE(wisp_check_host(&host, &error) == 0);
	CHECK(host.kvm >= WISP_KVM_OK && host.kvm <= WISP_KVM_EMULATED);
	bool runs = host.kvm == WISP_KVM_OK || host.kvm == WISP_KVM_EMULATED;
	CHECK_EQ(host.kvm_errnum == 0, runs);
	CHECK_EQ(host.kvm_failed[0] == '\0', runs);
	CHECK(runs || host.kvm_loop_ns == 0);
	CHECK_EQ(host.kvm == WISP_KVM_MISSING, access("/dev/kvm", F_OK) < 0);
	CHECK(host.memory_available_mib > 0);
	CHECK_EQ(host.io_uring == WISP_IO_URING_OK, uring_probe() == 0);
}

/* What to do depends on where /dev/kvm is missing. */
static void a_missing_kvm_is_explained(void)
{
	struct kvm_missing here = kvm_missing_find(), metal = {.has_virtualization = true},
	                   nested = {.in_vm = true, .has_virtualization = true}, sandbox = {.in_vm = true},
	                   container = {.in_kernel = true, .in_vm = true};
	CHECK_EQ(here.in_kernel, access("/sys/class/misc/kvm", F_OK) == 0);
#ifdef __aarch64__ /* no module is to be loaded there */
	const char *general = "EL2";
#else
	const char *general = "modprobe kvm_intel";
#endif
	CHECK(strstr(kvm_missing_advice(&metal), general));
	CHECK(strstr(kvm_missing_advice(&nested), general));
	CHECK(strstr(kvm_missing_advice(&sandbox), "no nested virtualization"));
	CHECK(strstr(kvm_missing_advice(&container), "--device /dev/kvm"));
	CHECK(strstr(kvm_denied_advice(EPERM), "--device /dev/kvm"));
	CHECK(strstr(kvm_denied_advice(EACCES), "usermod -aG kvm"));
}

static void versions_of_the_structure(void)
{
	struct {
		struct wisp_host_info info;
		char newer[16];
	} given;
	struct wisp_error error;
	const size_t older = offsetof(struct wisp_host_info, kvm_loop_ns);
	memset(&given, 0xa5, sizeof(given));
	given.info.size = older;
	REQUIRE(wisp_check_host(&given.info, &error) == 0);
	CHECK_EQ(given.info.size, older);
	for (size_t i = older; i < sizeof(given); i++)
		CHECK_EQ(((unsigned char *)&given)[i], 0xa5);
	given.info.size = sizeof(given);
	REQUIRE(wisp_check_host(&given.info, &error) == 0);
	for (size_t i = 0; i < sizeof(given.newer); i++)
		CHECK_EQ(given.newer[i], 0);
	given.info.size = 0;
	CHECK_EQ(wisp_check_host(&given.info, &error), -EINVAL);
	CHECK_EQ(error.status, WISP_ERR_INVALID);
	CHECK_EQ(wisp_check_host(NULL, NULL), -EINVAL);
}

static void what_failed_is_said(void)
{
	struct wisp_host_info host = {.size = sizeof(host)};
	struct rlimit before, none;
	REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
	none = before;
	none.rlim_cur = 0;
	REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
	int r = wisp_check_host(&host, NULL);
	setrlimit(RLIMIT_NOFILE, &before);
	CHECK_EQ(r, 0);
	CHECK_EQ(host.kvm, WISP_KVM_BROKEN);
	CHECK_EQ(host.kvm_errnum, EMFILE);
	CHECK_STR(host.kvm_failed, "open");
}

/* The state of io_uring where its system call fails with `errnum`; 0 if it cannot be tried. */
static int io_uring_with(unsigned errnum)
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		struct wisp_host_info host = {.size = sizeof(host)};
		if (!make_call_fail(SYS_io_uring_setup, errnum) || wisp_check_host(&host, NULL) < 0)
			_exit(0);
		_exit((int)host.io_uring);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void io_uring_is_classified(void)
{
	int missing = io_uring_with(ENOSYS);
	if (missing == 0)
		SKIP("seccomp is not available");
	CHECK_EQ(missing, WISP_IO_URING_MISSING);
	CHECK_EQ(io_uring_with(EPERM), WISP_IO_URING_DENIED);
	CHECK_EQ(io_uring_with(EINVAL), WISP_IO_URING_OLD);
}

TEST_MAIN("lib_host", {"this_host", this_host}, {"a_missing_kvm_is_explained", a_missing_kvm_is_explained},
        {"versions_of_the_structure", versions_of_the_structure}, {"what_failed_is_said", what_failed_is_said},
        {"io_uring_is_classified", io_uring_is_classified})
