/* SPDX-License-Identifier: Apache-2.0 */
/* What the payload cannot show: state of a vCPU that only the right order, or a larger area, keeps. */
#include <cpuid.h>
#include <linux/kvm.h>

#include "tests/payload/bare_vcpu.h"

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

static bool access_msr(const struct bare_vcpu *b, unsigned long request, uint32_t index, uint64_t *value)
{
	struct one_msr msr = {.head.nmsrs = 1, .entry = {.index = index, .data = *value}};
	bool done = ioctl(b->vcpu.fd, request, &msr) == 1;
	*value = msr.entry.data;
	return done;
}

/* KVM drops the deadline of an APIC whose timer is not in that mode (yet), and one that is older than its TSC. */
static void a_tsc_deadline_survives(void)
{
	enum { DEADLINE = 0x6e0, SPURIOUS = 0xf0, LVT_TIMER = 0x320, ENABLED = 1 << 8 };
	const uint32_t deadline_mode = 2u << 17 | 0xec;
	const uint64_t wanted = UINT64_C(1) << 60;
	struct bare_vcpu from, to;
	struct kvm_lapic_state lapic;
	struct err err = {0};
	uint64_t value = wanted;
	uint32_t enabled = ENABLED | 0xff;
	void *state = calloc(1, arch_vcpu_state_size());
	REQUIRE(make_vcpu(&from, &err) && make_vcpu(&to, &err));
	REQUIRE(ioctl(from.vcpu.fd, KVM_GET_LAPIC, &lapic) == 0);
	memcpy(lapic.regs + SPURIOUS, &enabled, sizeof(enabled));
	memcpy(lapic.regs + LVT_TIMER, &deadline_mode, sizeof(deadline_mode));
	REQUIRE(ioctl(from.vcpu.fd, KVM_SET_LAPIC, &lapic) == 0);
	CHECK(access_msr(&from, KVM_SET_MSRS, DEADLINE, &value));
	value = 0;
	CHECK(access_msr(&from, KVM_GET_MSRS, DEADLINE, &value));
	bool has_deadline = value == wanted;
	if (!has_deadline) {
		destroy_vcpu(&from);
		destroy_vcpu(&to);
		free(state);
		SKIP("this processor's APIC has no deadline mode");
	}
	CHECK_EQ(arch_save_vcpu(from.arch, &from.kvm, from.vcpu.fd, 0, state, &err), 0);
	CHECK_EQ(arch_restore_vcpu(to.arch, to.vcpu.fd, 0, state, &err), 0);
	CHECK(access_msr(&to, KVM_GET_MSRS, DEADLINE, &value));
	CHECK_EQ(value, wanted);
	free(state);
	destroy_vcpu(&from);
	destroy_vcpu(&to);
}

/* Fills the registers of each XSAVE component of `components` (bits of XCR0). Returns false if the processor lacks one.
 */
static bool fill_extended_state(struct kvm_xsave *xsave, uint64_t components)
{
	enum { LEGACY = 160, LEGACY_SIZE = 256, HEADER = 512 }; /* SDM volume 1, 13.4: XMM registers; XSTATE_BV */
	uint8_t *area = (uint8_t *)xsave->region;
	memcpy(area + HEADER, &components, sizeof(components));
	for (unsigned i = 0; i < LEGACY_SIZE; i++)
		area[LEGACY + i] = (uint8_t)(i * 7 + 1);
	for (unsigned component = 2; component < 8; component++) {
		uint32_t size, offset, c, d;
		if (!(components >> component & 1))
			continue;
		if (!__get_cpuid_count(0xd, component, &size, &offset, &c, &d) || size == 0 ||
		        offset + size > sizeof(xsave->region))
			return false;
		for (uint32_t i = 0; i < size; i++)
			area[offset + i] = (uint8_t)(i * 13 + component);
	}
	return true;
}

static void avx_state_survives(void)
{
	enum { AVX = 0x7, AVX512 = 0xe7 };
	struct bare_vcpu from, to;
	struct err err = {0};
	struct kvm_xsave wanted, got;
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = AVX512}}}, got_xcrs;
	void *state = calloc(1, arch_vcpu_state_size());
	REQUIRE(make_vcpu(&from, &err) && make_vcpu(&to, &err));
	bool has_avx = ioctl(from.vcpu.fd, KVM_SET_XCRS, &xcrs) == 0;
	if (!has_avx) {
		xcrs.xcrs[0].value = AVX;
		has_avx = ioctl(from.vcpu.fd, KVM_SET_XCRS, &xcrs) == 0;
	}
	if (has_avx) {
		REQUIRE(ioctl(from.vcpu.fd, KVM_GET_XSAVE, &wanted) == 0);
		REQUIRE(fill_extended_state(&wanted, xcrs.xcrs[0].value));
		REQUIRE(ioctl(from.vcpu.fd, KVM_SET_XSAVE, &wanted) == 0);
		CHECK_EQ(arch_save_vcpu(from.arch, &from.kvm, from.vcpu.fd, 0, state, &err), 0);
		CHECK_EQ(arch_restore_vcpu(to.arch, to.vcpu.fd, 0, state, &err), 0);
		CHECK(ioctl(to.vcpu.fd, KVM_GET_XCRS, &got_xcrs) == 0);
		CHECK_EQ(got_xcrs.xcrs[0].value, xcrs.xcrs[0].value);
		CHECK(ioctl(to.vcpu.fd, KVM_GET_XSAVE, &got) == 0);
		CHECK(memcmp(&got, &wanted, sizeof(got)) == 0);
	}
	free(state);
	destroy_vcpu(&from);
	destroy_vcpu(&to);
	if (!has_avx)
		SKIP("this KVM's vCPUs have no AVX");
	printf("# XCR0 0x%llx\n", (unsigned long long)xcrs.xcrs[0].value);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"a_tsc_deadline_survives", a_tsc_deadline_survives},
	        {"avx_state_survives", avx_state_survives},
	};
	return state_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
