/* SPDX-License-Identifier: Apache-2.0 */
/* What the payload cannot show: that every register of a vCPU and of its interrupt controller is saved and restored. */
#include <linux/kvm.h>
#include <stddef.h>

#include "tests/payload/bare_vcpu.h"
#include "vmm/monitor/aarch64/state.h"
#include "vmm/monitor/arch.h"

struct saved {
	struct state_vm vm;
	struct state_vcpu vcpu;
};

static bool save(struct bare_vcpu *b, struct saved *to, struct err *err)
{
	return arch_save_vm(b->arch, &b->kvm, &to->vm, err) == 0 &&
	       arch_save_vcpu(b->arch, &b->kvm, b->vcpu.fd, 0, &to->vcpu, err) == 0;
}

static bool restore(struct bare_vcpu *b, const struct saved *from, struct err *err)
{
	return arch_restore_vm(b->arch, &b->kvm, &from->vm, err) == 0 &&
	       arch_restore_vcpu(b->arch, b->vcpu.fd, 0, &from->vcpu, err) == 0;
}

/* What is saved of one machine, is restored to another, and saved again of that one. */
struct passage {
	struct bare_vcpu from, to;
	struct saved *wanted, *got;
	struct err err;
};

static bool begin(struct passage *p)
{
	*p = (struct passage){.wanted = calloc(1, sizeof(struct saved)), .got = calloc(1, sizeof(struct saved))};
	return make_vcpu(&p->from, &p->err) && make_vcpu(&p->to, &p->err) && save(&p->from, p->wanted, &p->err);
}

static bool pass(struct passage *p)
{
	return restore(&p->to, p->wanted, &p->err) && save(&p->to, p->got, &p->err);
}

static void end(struct passage *p)
{
	if (p->err.errnum)
		printf("# %s\n", p->err.text);
	free(p->wanted);
	free(p->got);
	destroy_vcpu(&p->from);
	destroy_vcpu(&p->to);
}

/* --- registers --- */

#define TIMER_EXPIRED 4ull /* by the counter and the value that is compared with it */

#define CORE(field)                                            \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | \
	        (uint64_t)(offsetof(struct kvm_regs, field) / sizeof(uint32_t)))

/* Of those that KVM lists: all that hold whatever a guest writes. */
static bool is_free(uint64_t id)
{
	static const uint64_t system[] = {
	        ARM64_SYS_REG(3, 3, 13, 0, 2), /* TPIDR_EL0 */
	        ARM64_SYS_REG(3, 3, 13, 0, 3), /* TPIDRRO_EL0 */
	        ARM64_SYS_REG(3, 0, 13, 0, 4), /* TPIDR_EL1 */
	        ARM64_SYS_REG(3, 0, 2, 0, 0),  /* TTBR0_EL1 */
	        ARM64_SYS_REG(3, 0, 2, 0, 1),  /* TTBR1_EL1 */
	        ARM64_SYS_REG(3, 0, 6, 0, 0),  /* FAR_EL1 */
	        ARM64_SYS_REG(3, 0, 10, 2, 0), /* MAIR_EL1 */
	        KVM_REG_ARM_TIMER_CVAL,
	};
	for (size_t i = 0; i < sizeof(system) / sizeof(system[0]); i++)
		if (id == system[i])
			return true;
	bool core = (id & KVM_REG_ARM_COPROC_MASK) == KVM_REG_ARM_CORE;
	bool status = id == CORE(regs.pstate) || (id >= CORE(spsr[0]) && id <= CORE(spsr[KVM_NR_SPSR - 1]));
	return core && !status && (id & KVM_REG_SIZE_MASK) != KVM_REG_SIZE_U32;
}

static unsigned fill_registers(struct state_vcpu *state)
{
	unsigned filled = 0;
	for (uint32_t i = 0; i < state->count; i++) {
		struct state_register *r = &state->reg[i];
		if (!is_free(r->id))
			continue;
		r->value[0] = 0x0123456789abcdefull + i * 0x0101010101010101ull;
		if ((r->id & KVM_REG_SIZE_MASK) == KVM_REG_SIZE_U128)
			r->value[1] = ~r->value[0];
		filled++;
	}
	return filled;
}

static void compare_registers(const struct state_vcpu *wanted, const struct state_vcpu *got)
{
	REQUIRE(got->count == wanted->count);
	for (uint32_t i = 0; i < wanted->count; i++) {
		const struct state_register *w = &wanted->reg[i], *g = &got->reg[i];
		bool same = w->id == g->id && memcmp(w->value, g->value, sizeof(w->value)) == 0;
		if (w->id == KVM_REG_ARM_TIMER_CNT || w->id == KVM_REG_ARM_PTIMER_CNT)
			same = w->id == g->id && g->value[0] >= w->value[0]; /* clocks go on */
		else if (w->id == KVM_REG_ARM_TIMER_CTL)
			same = w->id == g->id && ((w->value[0] ^ g->value[0]) & ~TIMER_EXPIRED) == 0;
		if (!same)
			printf("# register 0x%llx: 0x%llx, not 0x%llx\n", (unsigned long long)g->id,
			        (unsigned long long)g->value[0], (unsigned long long)w->value[0]);
		CHECK(same);
	}
}

/* 31 general registers, pc, two stack pointers, an exception's return address, 32 vector registers, and those above. */
static void every_register_survives(void)
{
	struct passage p;
	REQUIRE(begin(&p));
	struct saved *wanted = p.wanted, *got = p.got;
	CHECK_EQ(fill_registers(&wanted->vcpu), 31 + 1 + 2 + 1 + 32 + 8);
	CHECK(pass(&p));
	compare_registers(&wanted->vcpu, &got->vcpu);
	CHECK(memcmp(&wanted->vcpu.mp, &got->vcpu.mp, sizeof(wanted->vcpu.mp)) == 0);
	end(&p);
}

/* --- the interrupt controller: places in its state, as gic.c lists the registers --- */

enum { ROUTES = 3, CONFIG = 67, PRIORITIES = 69, PENDING = 77, ACTIVE = 78, ENABLED = 79 };
enum { OWN_PRIORITIES = 5, OWN_PENDING = 13, OWN_ACTIVE = 14, OWN_ENABLED = 15 };
enum { PRIORITY_MASK = 4 };

static void compare_words(const char *what, const uint32_t *wanted, const uint32_t *got, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (wanted[i] != got[i])
			printf("# %s, word %zu: 0x%x, not 0x%x\n", what, i, got[i], wanted[i]);
		CHECK_EQ(got[i], wanted[i]);
	}
}

static void interrupts_survive(void)
{
	struct passage p;
	REQUIRE(begin(&p));
	struct saved *wanted = p.wanted, *got = p.got;
	uint32_t *shared = wanted->vm.distributor, *own = wanted->vcpu.redistributor;
	shared[CONFIG] = shared[CONFIG + 1] = 0xaaaaaaaa; /* edges */
	for (unsigned i = 0; i < 8; i++)
		shared[PRIORITIES + i] = own[OWN_PRIORITIES + i] = 0x10203040 + i * 0x08080808;
	shared[PENDING] = 0x00f0000f;
	shared[ACTIVE] = 0x0000ff01;
	shared[ENABLED] = 0x12345678;
	own[OWN_PENDING] = 0x0000000a; /* among the first 16, which processors send each other */
	own[OWN_ACTIVE] = 0x00000005;
	own[OWN_ENABLED] = 0x0800ffff;
	wanted->vcpu.interface[PRIORITY_MASK] = 0xf0;
	CHECK(pass(&p));
	compare_words("distributor", shared, got->vm.distributor, GIC_DISTRIBUTOR_STATE);
	compare_words("redistributor", own, got->vcpu.redistributor, GIC_REDISTRIBUTOR_STATE);
	for (size_t i = 0; i < GIC_INTERFACE_STATE; i++)
		CHECK_EQ(got->vcpu.interface[i], wanted->vcpu.interface[i]);
	/* Once more, without them: what a restore does not name is off. */
	shared[PENDING] = shared[ACTIVE] = shared[ENABLED] = own[OWN_PENDING] = own[OWN_ACTIVE] = own[OWN_ENABLED] = 0;
	CHECK(pass(&p));
	compare_words("distributor", shared, got->vm.distributor, GIC_DISTRIBUTOR_STATE);
	compare_words("redistributor", own, got->vcpu.redistributor, GIC_REDISTRIBUTOR_STATE);
	end(&p);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"every_register_survives", every_register_survives},
	        {"interrupts_survive", interrupts_survive},
	};
	return state_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
