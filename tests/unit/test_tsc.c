/* SPDX-License-Identifier: Apache-2.0 */
/* The TSCs of a machine that is restored, with a KVM that this program plays: that of Linux 5.10 to 6.6. */
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#include "tests/unit/test.h"
#include "vmm/monitor/x86_64/state.h"

#define VCPU_FD 1000 /* of vCPU 0 */
#define CPUS 3u
#define KHZ 3000000u
#define MSR_TSC 0x10u
#define SECOND (KHZ * UINT64_C(1000))

/* Offsets from the host's TSC, which stands still here. */
static struct fake {
	uint64_t tsc[CPUS];
	uint64_t last_write, last_tsc; /* the value that was set last, and what it came to */
	unsigned writes;
} fake;

/* A value within a second of the last one is taken for an attempt to synchronize. */
static void set_tsc(unsigned cpu, uint64_t value)
{
	bool close = value < fake.last_write + SECOND && value + SECOND > fake.last_write;
	fake.tsc[cpu] = close ? fake.last_tsc : value;
	fake.last_write = value;
	fake.last_tsc = fake.tsc[cpu];
	fake.writes++;
}

/* In place of libc's, for the monitor's code in this program. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	void *argument = va_arg(args, void *);
	va_end(args);
	CHECK(fd >= VCPU_FD && fd < VCPU_FD + (int)CPUS);
	if (request == KVM_GET_TSC_KHZ)
		return KHZ;
	if (request != KVM_SET_MSRS)
		return 0;
	const struct kvm_msrs *msrs = argument;
	for (uint32_t i = 0; i < msrs->nmsrs; i++)
		if (msrs->entries[i].index == MSR_TSC)
			set_tsc((unsigned)(fd - VCPU_FD), msrs->entries[i].data);
	return (int)msrs->nmsrs;
}

static void restore(uint64_t tsc)
{
	static struct state_vcpu state;
	fake = (struct fake){.last_write = 0}; /* as new vCPUs have it */
	for (unsigned i = 0; i < CPUS; i++) {
		struct err err = {0};
		state = (struct state_vcpu){.tsc_khz = KHZ, .msr_count = 1};
		/* They were read one after the other. */
		state.msr[0] = (struct kvm_msr_entry){.index = MSR_TSC, .data = tsc + i * 1000};
		CHECK_EQ(state_restore_vcpu(VCPU_FD + (int)i, i, &state, &err), 0);
	}
	CHECK(fake.writes >= CPUS);
}

/* However young the guest is, its TSC goes on where it was, and all vCPUs have the same. */
static void it_goes_on(void)
{
	static const uint64_t ages[] = {1, SECOND / 10, SECOND - 1, SECOND, SECOND + 1, 1000 * SECOND,
	        UINT64_C(1) << 60, UINT64_C(1) << 63, UINT64_MAX - 2 * SECOND};
	for (size_t age = 0; age < sizeof(ages) / sizeof(ages[0]); age++) {
		restore(ages[age]);
		for (unsigned i = 0; i < CPUS; i++)
			CHECK_EQ(fake.tsc[i], ages[age]);
	}
}

TEST_MAIN("tsc", {"it_goes_on", it_goes_on})
