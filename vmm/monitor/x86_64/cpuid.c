/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves and bits are those of Intel's SDM (volume 2A, CPUID; volume 1, chapter 13 for XSAVE) and AMD's APM (volume 3,
 * appendix E).
 */
#include "vmm/monitor/x86_64/cpuid.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <string.h>

#define BIT(n) (1u << (n))

#define XTILE (BIT(17) | BIT(18))     /* XCR0: AMX's XTILECFG and XTILEDATA */
#define XSS_HIDDEN (BIT(8) | BIT(15)) /* IA32_XSS: Processor Trace, last branch records */

/* The XSAVE area: the legacy region and the header. */
#define XSAVE_MIN 576u

struct bits {
	uint32_t leaf, subleaf;
	uint32_t eax, ebx, ecx, edx;
};

static const struct bits hidden_bits[] = {
        /* DTES64, DS-CPL, VMX, SMX, PDCM; DS */
        {0x1, 0, .ecx = BIT(2) | BIT(4) | BIT(5) | BIT(6) | BIT(15), .edx = BIT(21)},
        /* SGX, Processor Trace; SGX_LC; SGX-KEYS, ARCH_LBR, AMX-BF16, AMX-TILE, AMX-INT8 */
        {0x7, 0, .ebx = BIT(2) | BIT(25), .ecx = BIT(30), .edx = BIT(1) | BIT(19) | BIT(22) | BIT(24) | BIT(25)},
        /* ArchPerfmonExt, AMX-FP16; AMX-COMPLEX */
        {0x7, 1, .eax = BIT(8) | BIT(21), .edx = BIT(8)},
        {0xd, 0, .eax = XTILE},
        /* XFD, of which AMX is the only user */
        {0xd, 1, .eax = BIT(4), .ecx = XSS_HIDDEN},
        /* SVM, IBS, SKINIT, LWP, PerfCtrExtCore, PerfCtrExtNB, PerfCtrExtLLC */
        {0x80000001, 0, .ecx = BIT(2) | BIT(10) | BIT(12) | BIT(15) | BIT(23) | BIT(24) | BIT(28)},
};

/* Leaves that are hidden whole: within the range of its leaves, KVM answers zeros for those not in the table. */
static bool is_hidden(uint32_t leaf)
{
	switch (leaf) {
	case 0xa: /* performance counters */
	case 0x1c:
	case 0x23:
	case 0x8000001b:
	case 0x80000022:
	case 0x12: /* SGX */
	case 0x14: /* Processor Trace */
	case 0x1d: /* AMX */
	case 0x1e:
	case 0x8000000a:              /* SVM */
	case 0x8000001f:              /* SEV */
	case 0x80000026: return true; /* AMD's extended topology: 0xb has it */
	default: return false;
	}
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf)
{
	for (unsigned i = 0; i < table->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];
		if (e->function == leaf && e->index == subleaf)
			return e;
	}
	return NULL;
}

static bool is_amd(const struct kvm_cpuid2 *table)
{
	const struct kvm_cpuid_entry2 *e = find(table, 0, 0);
	return e && (memcmp(&e->ebx, "Auth", 4) == 0 || memcmp(&e->ebx, "Hygo", 4) == 0);
}

static bool has_brand(const struct kvm_cpuid2 *table)
{
	for (uint32_t leaf = 0x80000002; leaf <= 0x80000004; leaf++) {
		const struct kvm_cpuid_entry2 *e = find(table, leaf, 0);
		if (e && (e->eax | e->ebx | e->ecx | e->edx))
			return true;
	}
	return false;
}

/* The state components that the guest may enable, in XCR0 and IA32_XSS together. */
static uint64_t xsave_components(const struct kvm_cpuid2 *table)
{
	const struct kvm_cpuid_entry2 *user = find(table, 0xd, 0), *supervisor = find(table, 0xd, 1);
	uint64_t all = user ? (uint64_t)user->edx << 32 | (user->eax & ~XTILE) : 0;
	if (supervisor)
		all |= (uint64_t)supervisor->edx << 32 | (supervisor->ecx & ~XSS_HIDDEN);
	return all;
}

/* Size of the XSAVE area, in the standard format, with every component of `xcr0`. */
static uint32_t xsave_size(const struct kvm_cpuid2 *table, uint64_t xcr0)
{
	uint32_t size = XSAVE_MIN;
	for (unsigned i = 2; i < 63; i++) {
		const struct kvm_cpuid_entry2 *e = xcr0 >> i & 1 ? find(table, 0xd, i) : NULL;
		if (e && e->ebx + e->eax > size)
			size = e->ebx + e->eax;
	}
	return size;
}

/* The smallest n with 1 << n >= count: the width of an APIC id field. */
static unsigned bits_for(unsigned count)
{
	unsigned bits = 0;
	while ((1u << bits) < count)
		bits++;
	return bits;
}

struct build {
	struct kvm_cpuid2 *guest;
	const struct kvm_cpuid2 *supported;
	const struct cpuid_options *options;
	bool amd;
	bool full; /* an entry did not fit */
};

static void add(struct build *b, struct kvm_cpuid_entry2 entry)
{
	if (b->guest->nent == CPUID_ENTRIES_MAX)
		b->full = true;
	else
		b->guest->entries[b->guest->nent++] = entry;
}

/* Leaves 0xb and 0x1f: threads of a core, cores of the package, and the end. KVM gives only the first, or the host's.
 */
static void add_topology(struct build *b, uint32_t leaf)
{
	enum { SMT = 1 << 8, CORE = 2 << 8 };
	const struct cpuid_options *o = b->options;
	struct kvm_cpuid_entry2 e = {.function = leaf, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .edx = o->index};
	e.index = 0, e.eax = 0, e.ebx = 1, e.ecx = SMT;
	add(b, e);
	e.index = 1, e.eax = bits_for(o->count), e.ebx = o->count, e.ecx = CORE | 1;
	add(b, e);
	e.index = 2, e.eax = 0, e.ebx = 0, e.ecx = 2;
	add(b, e);
}

static void add_brand(struct build *b)
{
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_cpuid_entry2 e = {.function = 0x80000002 + i};
		const char *part = b->options->brand + 16 * (size_t)i;
		memcpy(&e.eax, part, 4);
		memcpy(&e.ebx, part + 4, 4);
		memcpy(&e.ecx, part + 8, 4);
		memcpy(&e.edx, part + 12, 4);
		add(b, e);
	}
}

static void hide_bits(struct kvm_cpuid_entry2 *e)
{
	for (unsigned i = 0; i < sizeof(hidden_bits) / sizeof(hidden_bits[0]); i++) {
		const struct bits *h = &hidden_bits[i];
		if (h->leaf != e->function || h->subleaf != e->index)
			continue;
		e->eax &= ~h->eax;
		e->ebx &= ~h->ebx;
		e->ecx &= ~h->ecx;
		e->edx &= ~h->edx;
	}
}

static void set_identity(struct kvm_cpuid_entry2 *e, const struct cpuid_options *o)
{
	e->ebx = (uint32_t)o->index << 24 | (uint32_t)o->count << 16 | 8u << 8 | (e->ebx & 0xff);
	e->ecx |= BIT(31) | BIT(24); /* a hypervisor is present; TSC-deadline timer */
	e->edx &= ~BIT(28);
	if (o->count > 1)
		e->edx |= BIT(28); /* HTT: the count in EBX is valid */
}

/* Levels 1 and 2 belong to a core, level 3 is shared by all. */
static void set_cache(struct kvm_cpuid_entry2 *e, unsigned count)
{
	e->eax &= ~(0xfffu << 14);
	if ((e->eax >> 5 & 7) >= 3)
		e->eax |= (count - 1) << 14;
	if (e->function == 0x4) {
		e->eax &= ~(0x3fu << 26);
		if (e->eax & 0x1f) /* not the end of the list */
			e->eax |= ((1u << bits_for(count)) - 1) << 26;
	}
}

/* KVM overwrites EBX of both at run time, as the guest writes XCR0; until then x87 and SSE alone are enabled. */
static void set_xsave(struct kvm_cpuid_entry2 *e, const struct kvm_cpuid2 *supported)
{
	if (e->index == 0 && e->eax != 0)
		e->ecx = xsave_size(supported, (uint64_t)e->edx << 32 | e->eax);
	if (e->index <= 1 && e->ebx != 0)
		e->ebx = XSAVE_MIN;
}

static void set_leaf(struct build *b, struct kvm_cpuid_entry2 *e)
{
	const struct cpuid_options *o = b->options;
	switch (e->function) {
	case 0x1: set_identity(e, o); break;
	case 0x4:
	case 0x8000001d: set_cache(e, o->count); break;
	case 0xd: set_xsave(e, b->supported); break;
	case 0x80000000:
		if (e->eax < 0x80000004)
			e->eax = 0x80000004; /* the last leaf of the name */
		break;
	case 0x80000001:
		if (b->amd && o->count > 1)
			e->ecx |= BIT(1); /* CmpLegacy: HTT counts cores */
		break;
	case 0x80000007:
		if (!o->stable_tsc)
			e->edx &= ~BIT(8); /* invariant TSC */
		break;
	case 0x80000008:
		if (b->amd)
			e->ecx = bits_for(o->count) << 12 | (o->count - 1);
		break;
	case 0x8000001e:
		e->eax = o->index;
		e->ebx = o->index; /* core id; one thread per core */
		e->ecx = 0;        /* one node */
		break;
	default: break;
	}
}

int cpuid_build(struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported, const struct cpuid_options *options,
        struct err *err)
{
	struct build b = {.guest = guest, .supported = supported, .options = options, .amd = is_amd(supported)};
	bool named = has_brand(supported);
	uint64_t components = xsave_components(supported);
	guest->nent = 0;
	for (unsigned i = 0; i < supported->nent; i++) {
		struct kvm_cpuid_entry2 e = supported->entries[i];
		bool is_name = e.function >= 0x80000002 && e.function <= 0x80000004;
		if (is_hidden(e.function) || (is_name && !named))
			continue;
		if (e.function == 0xd && e.index >= 2 && (e.index >= 64 || !(components >> e.index & 1)))
			continue;
		if (e.function == 0xb || e.function == 0x1f) {
			if (e.index == 0)
				add_topology(&b, e.function);
			continue;
		}
		hide_bits(&e);
		set_leaf(&b, &e);
		add(&b, e);
	}
	if (!named)
		add_brand(&b);
	if (b.full)
		return err_set(err, E2BIG, "the host's processor needs more than %u CPUID entries: KVM takes no more",
		        CPUID_ENTRIES_MAX);
	return 0;
}
