/* SPDX-License-Identifier: Apache-2.0 */
/* What KVM is told of a new VM, with a KVM that this program plays. */
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#include "tests/unit/test.h"
#include "vmm/monitor/x86_64/processor.h"

#define VM_FD 1000

static struct fake {
	int pmu_caps; /* what KVM answers about the PMU: a set of KVM_PMU_CAP_*, 0, or -1 */
	bool refuses; /* to disable it */
	unsigned pmu_disabled, split;
} fake;

static int enable(const struct kvm_enable_cap *cap)
{
	if (cap->cap == KVM_CAP_SPLIT_IRQCHIP)
		fake.split++;
	if (cap->cap != KVM_CAP_PMU_CAPABILITY)
		return 0;
	CHECK_EQ(cap->args[0], KVM_PMU_CAP_DISABLE);
	if (!fake.refuses) {
		fake.pmu_disabled++;
		return 0;
	}
	errno = EINVAL;
	return -1;
}

/* In place of libc's, for the monitor's code in this program. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	unsigned long argument = va_arg(args, unsigned long);
	va_end(args);
	CHECK_EQ(fd, VM_FD);
	if (request == KVM_ENABLE_CAP)
		return enable((const struct kvm_enable_cap *)argument);
	if (request == KVM_CHECK_EXTENSION)
		return argument == KVM_CAP_PMU_CAPABILITY ? fake.pmu_caps : 0;
	CHECK(request == KVM_SET_IDENTITY_MAP_ADDR || request == KVM_SET_TSS_ADDR);
	return 0;
}

/* AMD's legacy counters are there without a CPUID leaf that could be hidden. */
static void the_pmu_is_disabled(void)
{
	struct err err = {0};
	fake = (struct fake){.pmu_caps = KVM_PMU_CAP_DISABLE};
	CHECK_EQ(processor_set_up_vm(VM_FD, &err), 0);
	CHECK_EQ(fake.pmu_disabled, 1);
	CHECK_EQ(fake.split, 1);
	fake = (struct fake){.pmu_caps = KVM_PMU_CAP_DISABLE, .refuses = true};
	CHECK_EQ(processor_set_up_vm(VM_FD, &err), -EINVAL);
	CHECK(strstr(err.text, "performance counters") != NULL);
}

static void an_older_kvm_keeps_it(void)
{
	static const int answers[] = {0, -1, KVM_PMU_CAP_DISABLE << 1};
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		struct err err = {0};
		fake = (struct fake){.pmu_caps = answers[i]};
		CHECK_EQ(processor_set_up_vm(VM_FD, &err), 0);
		CHECK_EQ(fake.pmu_disabled, 0);
	}
}

TEST_MAIN("processor", {"the_pmu_is_disabled", the_pmu_is_disabled}, {"an_older_kvm_keeps_it", an_older_kvm_keeps_it})
