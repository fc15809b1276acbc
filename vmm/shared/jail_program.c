/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/shared/jail_program.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>

#define NUMBERS 512u /* of system calls; those of all rules are below */
#define RULES_OF_CALL_MAX 64u

enum outcome {
	REFUSED = 0,
	ALLOWED,
	DEPENDS, /* on an argument, or the call fails with ENOSYS */
};

/* Numbers with the same outcome, up to the start of the next range. Each that DEPENDS is a range of its own. */
struct range {
	uint16_t start;
	uint8_t outcome;
};

struct builder {
	const struct jail_tables *tables;
	unsigned thread;
	struct sock_filter *program;
	size_t count; /* above JAIL_FILTER_MAX: the program cannot be built */
};

static void add(struct builder *b, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	if (b->count < JAIL_FILTER_MAX)
		b->program[b->count] = (struct sock_filter){code, jt, jf, k};
	b->count++;
}

static void load(struct builder *b, size_t offset)
{
	add(b, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static void finish(struct builder *b, uint32_t action)
{
	add(b, BPF_RET | BPF_K, 0, 0, action);
}

/* The distance of a jump from the instruction at `from` to what is added next. */
static uint8_t distance(struct builder *b, size_t from)
{
	size_t skipped = b->count - from - 1;
	if (skipped > UINT8_MAX)
		b->count = JAIL_FILTER_MAX + 1;
	return (uint8_t)skipped;
}

/* The rules of both tables, one after the other; NULL behind the last one. */
static const struct jail_rule *rule_at(const struct jail_tables *tables, size_t i)
{
	if (i < tables->count)
		return &tables->rules[i];
	i -= tables->count;
	return i < tables->arch_count ? &tables->arch_rules[i] : NULL;
}

static enum outcome outcome_of(const struct jail_rule *rule)
{
	return rule->test == JAIL_ANY ? ALLOWED : DEPENDS;
}

static size_t find_rules(const struct builder *b, uint32_t number, const struct jail_rule *found[RULES_OF_CALL_MAX])
{
	const struct jail_rule *rule;
	size_t count = 0;
	for (size_t i = 0; (rule = rule_at(b->tables, i)) && count < RULES_OF_CALL_MAX; i++) {
		if (rule->number == number && rule->threads & b->thread)
			found[count++] = rule;
	}
	return count;
}

/* Decides about a call that has rules. Any test that holds jumps to the last instruction, which allows the call. */
static void add_call(struct builder *b, uint32_t number)
{
	const struct jail_rule *found[RULES_OF_CALL_MAX];
	size_t count = find_rules(b, number, found);
	if (found[0]->test == JAIL_ANY || found[0]->test == JAIL_MISSING) {
		finish(b, found[0]->test == JAIL_ANY ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | ENOSYS);
		return;
	}
	load(b, offsetof(struct seccomp_data, args) + 8 * found[0]->argument);
	for (size_t i = 0; i < count; i++) {
		uint8_t allow = (uint8_t)(count - i);
		bool wanted = found[i]->test == JAIL_IS;
		add(b, BPF_JMP | BPF_K | (found[i]->test == JAIL_LACKS ? BPF_JSET : BPF_JEQ), wanted ? allow : 0,
		        wanted ? 0 : allow, found[i]->value);
	}
	finish(b, SECCOMP_RET_TRAP);
	finish(b, SECCOMP_RET_ALLOW);
}

static void add_hot(struct builder *b)
{
	const struct jail_rule *found[RULES_OF_CALL_MAX];
	for (size_t i = 0; i < b->tables->hot_count; i++) {
		size_t test = b->count;
		if (find_rules(b, b->tables->hot[i], found) == 0)
			continue;
		add(b, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, b->tables->hot[i]);
		add_call(b, b->tables->hot[i]);
		b->program[test].jf = distance(b, test);
	}
}

/* Without the hot calls, which never get so far. Returns the number of ranges. */
static size_t make_ranges(const struct builder *b, struct range ranges[NUMBERS])
{
	uint8_t outcome[NUMBERS] = {REFUSED};
	const struct jail_rule *rule;
	size_t count = 0;
	for (size_t i = 0; (rule = rule_at(b->tables, i)); i++) {
		if (rule->threads & b->thread)
			outcome[rule->number % NUMBERS] = (uint8_t)outcome_of(rule);
	}
	for (size_t i = 0; i < b->tables->hot_count; i++)
		outcome[b->tables->hot[i]] = REFUSED;
	for (uint32_t n = 0; n < NUMBERS; n++) {
		if (n == 0 || outcome[n] != outcome[n - 1] || outcome[n] == DEPENDS)
			ranges[count++] = (struct range){(uint16_t)n, outcome[n]};
	}
	return count;
}

/* A binary search for the number's range. */
static void add_search(struct builder *b, const struct range *range, size_t count)
{
	if (count == 1 && range->outcome == DEPENDS) {
		add_call(b, range->start);
	} else if (count == 1) {
		finish(b, range->outcome == ALLOWED ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP);
	} else {
		size_t test = b->count, half = count / 2;
		add(b, BPF_JMP | BPF_JGE | BPF_K, 0, 0, range[half].start);
		add_search(b, range, half);
		if (test < JAIL_FILTER_MAX)
			b->program[test].jt = distance(b, test);
		add_search(b, range + half, count - half);
	}
}

size_t jail_build(const struct jail_tables *tables, unsigned thread, struct sock_filter program[JAIL_FILTER_MAX])
{
	struct builder b = {.tables = tables, .thread = thread, .program = program};
	struct range ranges[NUMBERS];
	load(&b, offsetof(struct seccomp_data, arch));
	add(&b, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, JAIL_PROCESSOR);
	finish(&b, SECCOMP_RET_KILL_PROCESS);
	load(&b, offsetof(struct seccomp_data, nr));
	add_hot(&b);
	add_search(&b, ranges, make_ranges(&b, ranges));
	return b.count <= JAIL_FILTER_MAX ? b.count : 0;
}
