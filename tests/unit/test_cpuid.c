/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's CPUID against what the SDM and the APM demand, for the tables of real hosts. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/cpuid_tables.h"
#include "tests/unit/test.h"
#include "vmm/monitor/x86_64/cpuid.h"
#include "vmm/monitor/x86_64/kernel_args.h"

#define BIT(n) (1u << (n))
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BRAND "Host CPU @ 3.14GHz"

struct table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[CPUID_ENTRIES_MAX + 1];
};

struct host {
	const char *name;
	const struct row *rows;
	unsigned count;
	bool named; /* KVM's table has a brand string */
};

static const struct host hosts[] = {
        {"Sapphire Rapids, 6.1", sapphire_rapids_6_1, COUNT(sapphire_rapids_6_1), false},
        {"Sapphire Rapids, 6.8", sapphire_rapids_6_8, COUNT(sapphire_rapids_6_8), false},
        {"Ice Lake", ice_lake, COUNT(ice_lake), false},
        {"Alder Lake", alder_lake, COUNT(alder_lake), false},
        {"Milan", milan, COUNT(milan), false},
        {"Genoa", genoa, COUNT(genoa), false},
        {"Zen 5", zen5, COUNT(zen5), false},
        {"emulated AMD", emulated_amd, COUNT(emulated_amd), true},
        {"emulated Skylake", emulated_skylake, COUNT(emulated_skylake), false},
};

static void load(struct table *to, const struct row *rows, unsigned count)
{
	static const uint32_t indexed[] = {0x4, 0x7, 0xb, 0xd, 0x12, 0x14, 0x1d, 0x1e, 0x1f, 0x8000001d, 0x80000026};
	memset(to, 0, sizeof(*to));
	to->head.nent = count;
	for (unsigned i = 0; i < count; i++) {
		to->entry[i] = (struct kvm_cpuid_entry2){.function = rows[i].leaf,
		        .index = rows[i].subleaf,
		        .eax = rows[i].eax,
		        .ebx = rows[i].ebx,
		        .ecx = rows[i].ecx,
		        .edx = rows[i].edx};
		for (unsigned k = 0; k < COUNT(indexed); k++)
			if (rows[i].leaf == indexed[k])
				to->entry[i].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	}
}

/* As the guest sees it: zeros for what is not in the table. */
static struct kvm_cpuid_entry2 get(const struct table *t, uint32_t leaf, uint32_t subleaf)
{
	for (unsigned i = 0; i < t->head.nent; i++)
		if (t->entry[i].function == leaf && t->entry[i].index == subleaf)
			return t->entry[i];
	return (struct kvm_cpuid_entry2){.function = leaf, .index = subleaf};
}

static bool is_zero(const struct table *t, uint32_t leaf)
{
	for (uint32_t subleaf = 0; subleaf < 4; subleaf++) {
		struct kvm_cpuid_entry2 e = get(t, leaf, subleaf);
		if (e.eax | e.ebx | e.ecx | e.edx)
			return false;
	}
	return true;
}

static void build(struct table *guest, const struct host *host, unsigned index, unsigned count, bool stable_tsc)
{
	struct table supported;
	struct cpuid_options options = {.index = index, .count = count, .stable_tsc = stable_tsc, .brand = BRAND};
	struct err err = {0};
	load(&supported, host->rows, host->count);
	memset(guest, 0xa5, sizeof(*guest));
	CHECK_EQ(cpuid_build(&guest->head, &supported.head, &options, &err), 0);
}

/* Runs a check for every host, and for machines of several sizes. */
static void for_each(void (*check)(const struct table *t, const struct host *host, unsigned index, unsigned count))
{
	static const unsigned counts[] = {1, 2, 3, 16, 33, 64};
	for (unsigned h = 0; h < COUNT(hosts); h++) {
		bool before = test_failed;
		test_failed = false;
		for (unsigned c = 0; c < COUNT(counts); c++) {
			for (unsigned index = 0; index<counts[c]; index += counts[c]> 4 ? counts[c] - 1 : 1) {
				struct table guest;
				build(&guest, &hosts[h], index, counts[c], true);
				check(&guest, &hosts[h], index, counts[c]);
			}
		}
		if (test_failed)
			printf("# that was %s\n", hosts[h].name);
		test_failed |= before;
	}
}

static void check_xsave(const struct table *t, const struct host *host, unsigned index, unsigned count)
{
	(void)host, (void)index, (void)count;
	struct kvm_cpuid_entry2 d0 = get(t, 0xd, 0), d1 = get(t, 0xd, 1), seven = get(t, 7, 0), one = get(t, 1, 0);
	uint32_t size = 576, xcr0 = d0.eax;
	CHECK_EQ(d0.edx, 0);
	CHECK_EQ(one.ecx >> 26 & 1, xcr0 != 0);
	if (xcr0 == 0)
		return;
	CHECK_EQ(xcr0 & 3, 3); /* x87 and SSE come with XSAVE */
	CHECK_EQ(xcr0 >> 3 & 1, xcr0 >> 4 & 1);
	CHECK((xcr0 >> 5 & 7) == 0 || ((xcr0 >> 5 & 7) == 7 && xcr0 >> 2 & 1));
	CHECK_EQ(seven.ebx >> 16 & 1, (xcr0 >> 5 & 7) == 7); /* AVX-512F */
	CHECK_EQ(xcr0 & (BIT(17) | BIT(18)), 0);
	for (unsigned i = 2; i < 63; i++) {
		struct kvm_cpuid_entry2 e = get(t, 0xd, i);
		bool user = i < 32 && xcr0 >> i & 1, supervisor = i < 32 && d1.ecx >> i & 1;
		CHECK_EQ(e.eax != 0, user || supervisor);
		if (user && e.eax + e.ebx > size)
			size = e.eax + e.ebx;
	}
	CHECK_EQ(d0.ecx, size);
	CHECK_EQ(d0.ebx, 576);
	CHECK_EQ(d1.ebx, 576);
	CHECK_EQ(d1.eax & BIT(4), 0); /* XFD */
	CHECK_EQ(d1.ecx & (BIT(8) | BIT(15)), 0);
}

static void xsave_is_consistent(void)
{
	for_each(check_xsave);
}

static void check_topology_leaf(const struct table *t, uint32_t leaf, unsigned index, unsigned count)
{
	struct kvm_cpuid_entry2 smt = get(t, leaf, 0), core = get(t, leaf, 1), end = get(t, leaf, 2);
	CHECK(smt.flags & core.flags & end.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	CHECK(smt.eax == 0 && smt.ebx == 1 && smt.ecx == (1 << 8 | 0));
	CHECK(core.ebx == count && core.ecx == (2 << 8 | 1));
	CHECK(end.eax == 0 && end.ebx == 0 && end.ecx == 2);
	CHECK(1u << core.eax >= count && (core.eax == 0 || 1u << (core.eax - 1) < count));
	CHECK_EQ(index >> core.eax, 0); /* one package */
	CHECK(smt.edx == index && core.edx == index && end.edx == index);
}

static void check_topology(const struct table *t, const struct host *host, unsigned index, unsigned count)
{
	struct kvm_cpuid_entry2 zero = get(t, 0, 0), one = get(t, 1, 0);
	bool amd = zero.ebx == 0x68747541;
	CHECK_EQ(one.ebx >> 24, index);
	CHECK_EQ(one.ebx >> 16 & 0xff, count);
	CHECK_EQ(one.edx >> 28 & 1, count > 1);
	for (unsigned i = 0; i < host->count; i++)
		if (host->rows[i].leaf == 0xb || host->rows[i].leaf == 0x1f)
			check_topology_leaf(t, host->rows[i].leaf, index, count);
	uint32_t caches = amd ? 0x8000001d : 4;
	for (uint32_t i = 0; i < 4; i++) {
		struct kvm_cpuid_entry2 cache = get(t, caches, i);
		if ((cache.eax & 0x1f) == 0)
			continue;
		CHECK_EQ((cache.eax >> 14 & 0xfff) + 1, (cache.eax >> 5 & 7) >= 3 ? count : 1);
		CHECK(amd || (cache.eax >> 26) + 1 >= count);
	}
	struct kvm_cpuid_entry2 size = get(t, 0x80000008, 0), node = get(t, 0x8000001e, 0);
	CHECK_EQ(size.ecx & 0xff, amd ? count - 1 : 0);
	CHECK(!amd || 1u << (size.ecx >> 12 & 15) >= count);
	CHECK(!amd || count == 1 || get(t, 0x80000001, 0).ecx & BIT(1));
	if (node.function == 0x8000001e && node.eax)
		CHECK(node.eax == index && node.ebx == index && node.ecx == 0);
}

static void topology_is_the_machines(void)
{
	for_each(check_topology);
}

static void check_hidden(const struct table *t, const struct host *host, unsigned index, unsigned count)
{
	(void)host, (void)index, (void)count;
	static const uint32_t leaves[] = {
	        0xa, 0x12, 0x14, 0x1c, 0x1d, 0x1e, 0x23, 0x8000000a, 0x8000001b, 0x8000001f, 0x80000022, 0x80000026};
	for (unsigned i = 0; i < COUNT(leaves); i++)
		CHECK(is_zero(t, leaves[i]));
	struct kvm_cpuid_entry2 one = get(t, 1, 0), seven = get(t, 7, 0), more = get(t, 7, 1);
	CHECK_EQ(one.ecx & (BIT(2) | BIT(5) | BIT(15)), 0);               /* DTES64, VMX, PDCM */
	CHECK_EQ(one.edx & BIT(21), 0);                                   /* DS */
	CHECK_EQ(seven.ebx & (BIT(2) | BIT(25)), 0);                      /* SGX, Processor Trace */
	CHECK_EQ(seven.ecx & BIT(30), 0);                                 /* SGX_LC */
	CHECK_EQ(seven.edx & (BIT(19) | BIT(22) | BIT(24) | BIT(25)), 0); /* ARCH_LBR, AMX */
	CHECK_EQ(more.eax & (BIT(8) | BIT(21)), 0);                       /* ArchPerfmonExt, AMX-FP16 */
	CHECK_EQ(more.edx & BIT(8), 0);                                   /* AMX-COMPLEX */
	CHECK_EQ(get(t, 0x80000001, 0).ecx & (BIT(2) | BIT(23)), 0);      /* SVM, PerfCtrExtCore */
	CHECK_EQ(one.ecx >> 31 & 1, 1);                                   /* a hypervisor */
	CHECK_EQ(one.ecx >> 24 & 1, 1);                                   /* TSC-deadline timer */
}

static void what_a_guest_may_not_use_is_hidden(void)
{
	for_each(check_hidden);
}

static void check_brand(const struct table *t, const struct host *host, unsigned index, unsigned count)
{
	(void)index, (void)count;
	char brand[49] = "";
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_cpuid_entry2 e = get(t, 0x80000002 + i, 0);
		memcpy(brand + 16 * i, (uint32_t[]){e.eax, e.ebx, e.ecx, e.edx}, 16);
	}
	CHECK_STR(brand, host->named ? "QEMU Virtual CPU version 2.5+" : BRAND);
	CHECK(get(t, 0x80000000, 0).eax >= 0x80000004);
}

static void the_processor_has_a_name(void)
{
	for_each(check_brand);
}

static void check_rest(const struct table *t, const struct host *host, unsigned index, unsigned count)
{
	(void)index, (void)count;
	static const uint32_t kept[] = {0x0, 0x2, 0x6, 0x80000005, 0x80000006, 0x80000007, 0x80000019, 0x80000021};
	for (unsigned i = 0; i < host->count; i++) {
		const struct row *r = &host->rows[i];
		struct kvm_cpuid_entry2 e = get(t, r->leaf, r->subleaf);
		for (unsigned k = 0; k < COUNT(kept); k++)
			if (kept[k] == r->leaf)
				CHECK(e.eax == r->eax && e.ebx == r->ebx && e.ecx == r->ecx && e.edx == r->edx);
	}
	for (unsigned i = 0; i < t->head.nent; i++)
		for (unsigned k = i + 1; k < t->head.nent; k++)
			CHECK(t->entry[i].function != t->entry[k].function || t->entry[i].index != t->entry[k].index);
}

static void the_rest_is_kvms(void)
{
	for_each(check_rest);
}

static void an_unstable_tsc_is_not_invariant(void)
{
	struct table guest;
	build(&guest, &hosts[2], 0, 2, true);
	CHECK(get(&guest, 0x80000007, 0).edx & BIT(8));
	build(&guest, &hosts[2], 0, 2, false);
	CHECK(!(get(&guest, 0x80000007, 0).edx & BIT(8)));
}

static bool is_stable(unsigned cpus, const char *text)
{
	char path[32];
	int fd = memfd_create("clocksource", MFD_CLOEXEC);
	CHECK_EQ(write(fd, text, strlen(text)), (long)strlen(text));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	bool stable = tsc_is_stable(cpus, path);
	close(fd);
	return stable;
}

static void several_vcpus_trust_a_tsc_that_the_host_trusts(void)
{
	CHECK(is_stable(1, "hpet\n"));
	CHECK(is_stable(2, "tsc\n"));
	CHECK(!is_stable(2, "hpet\n"));
	CHECK(!is_stable(2, "tsc-early\n"));
	CHECK(!is_stable(2, ""));
	CHECK(!tsc_is_stable(64, "/nonexistent"));
	CHECK(strstr(arch_kernel_args(true, false), "tsc=reliable") != NULL);
	CHECK(strstr(arch_kernel_args(false, false), "tsc=") == NULL);
	CHECK(strstr(arch_kernel_args(false, false), "reboot=k,panic_warm") != NULL);
}

static void memory_beyond_the_hole_needs_no_bounce_buffers(void)
{
	for (int stable = 0; stable < 2; stable++) {
		CHECK(strstr(arch_kernel_args(stable, false), "swiotlb") == NULL);
		CHECK(strstr(arch_kernel_args(stable, true), "swiotlb=noforce") != NULL);
		CHECK_EQ(strstr(arch_kernel_args(stable, true), "tsc=reliable") != NULL, stable);
	}
}

static void a_table_that_does_not_fit_is_refused(void)
{
	static struct row many[CPUID_ENTRIES_MAX];
	struct table supported, guest;
	struct cpuid_options options = {.count = 1, .brand = BRAND};
	struct err err = {0};
	for (unsigned i = 0; i < COUNT(many); i++)
		many[i] = (struct row){.leaf = 0x40000000 + i, .eax = 1};
	load(&supported, many, COUNT(many) - 3);
	CHECK_EQ(cpuid_build(&guest.head, &supported.head, &options, &err), 0); /* three more: the brand string */
	CHECK_EQ(guest.head.nent, CPUID_ENTRIES_MAX);
	load(&supported, many, COUNT(many) - 2);
	memset(&guest, 0xa5, sizeof(guest));
	CHECK_EQ(cpuid_build(&guest.head, &supported.head, &options, &err), -E2BIG);
	CHECK(strstr(err.text, "256 CPUID entries") != NULL);
	CHECK_EQ(guest.entry[CPUID_ENTRIES_MAX].function, 0xa5a5a5a5);
}

TEST_MAIN("cpuid", {"xsave_is_consistent", xsave_is_consistent}, {"topology_is_the_machines", topology_is_the_machines},
        {"what_a_guest_may_not_use_is_hidden", what_a_guest_may_not_use_is_hidden},
        {"the_processor_has_a_name", the_processor_has_a_name}, {"the_rest_is_kvms", the_rest_is_kvms},
        {"an_unstable_tsc_is_not_invariant", an_unstable_tsc_is_not_invariant},
        {"memory_beyond_the_hole_needs_no_bounce_buffers", memory_beyond_the_hole_needs_no_bounce_buffers},
        {"several_vcpus_trust_a_tsc_that_the_host_trusts", several_vcpus_trust_a_tsc_that_the_host_trusts},
        {"a_table_that_does_not_fit_is_refused", a_table_that_does_not_fit_is_refused})
