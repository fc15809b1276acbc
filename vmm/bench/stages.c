/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/stages.h"

const struct bench_stage_info bench_stages[BENCH_STAGES] = {
        [BENCH_CREATE] = {"create", "wisp_create_sandbox is called", BENCH_LIBRARY},
        [BENCH_SPAWN] = {"spawn", "options and files checked, directory claimed", BENCH_LIBRARY},
        [BENCH_MAIN] = {"main", "posix_spawn, exec() of wisp-vmm", BENCH_MONITOR},
        [BENCH_MEMORY_RESTORED] = {"memory_restored", "description received, saved memory mapped or copied",
                BENCH_MONITOR},
        [BENCH_MEMORY_MAPPED] = {"memory_mapped", "/dev/kvm, the other thread; guest memory mapped", BENCH_MONITOR},
        [BENCH_DEVICES_CREATED] = {"devices_created", "CPUID, device models", BENCH_MONITOR},
        [BENCH_KERNEL_LOADED] = {"kernel_loaded", "kernel and initramfs read into guest memory", BENCH_MONITOR},
        [BENCH_VM_CREATED] = {"vm_created", "KVM_CREATE_VM, memory, by the other thread", BENCH_MONITOR},
        [BENCH_VCPU_READY] = {"vcpu_ready", "eventfds bound, registers set; both threads are done", BENCH_MONITOR},
        [BENCH_FIRST_RUN] = {"first_run", "the last steps of the vCPU's thread", BENCH_MONITOR},
        [BENCH_SIGNAL] = {"signal", "KVM_RUN to the payload's first port write", BENCH_MONITOR},
        [BENCH_START_KERNEL] = {"start_kernel", "from the kernel's entry to its C code", BENCH_KERNEL},
        [BENCH_REST_INIT] = {"rest_init", "start_kernel: memory, scheduler, clocks, console", BENCH_KERNEL},
        [BENCH_INITCALLS] = {"initcalls", "kernel_init begins, up to the first initcall", BENCH_KERNEL},
        [BENCH_FREE_INITMEM] = {"free_initmem", "initcalls, the initramfs unpacked", BENCH_KERNEL},
        [BENCH_INIT_EXEC] = {"init_exec", "init memory freed and protected", BENCH_KERNEL},
        [BENCH_INIT_ENTERED] = {"init_entered", "execve of the agent", BENCH_KERNEL},
        [BENCH_AGENT_SERVES] = {"agent_serves", "root mounted, devices, socket: the agent serves", BENCH_AGENT},
        [BENCH_READY] = {"ready", "the agent's message reaches the monitor", BENCH_AGENT},
        [BENCH_FIRST_BYTE] = {"first_byte", "first command: connection, fork, exec, output", BENCH_COMMAND},
        [BENCH_EXITED] = {"exited", "the host knows that the command has exited", BENCH_COMMAND},
        [BENCH_ENDED] = {"ended", "the monitor sees that its owner has closed the sandbox", BENCH_TEARDOWN},
        [BENCH_TORN_DOWN] = {"torn_down", "vCPU, VM, devices and memory released", BENCH_TEARDOWN},
        [BENCH_GONE] = {"gone", "the monitor's process is reaped", BENCH_TEARDOWN},
};

const char *const bench_owners[BENCH_OWNERS] = {"library", "monitor", "kernel", "agent", "command", "teardown"};

const struct bench_span_info bench_spans[BENCH_SPANS] = {
        {"to_first_run", "exec() of wisp-vmm to the guest's first instruction", BENCH_SPAWN, BENCH_FIRST_RUN},
        {"to_signal", "exec() of wisp-vmm to the guest's first signal", BENCH_SPAWN, BENCH_SIGNAL},
        {"kernel", "kernel entry to PID 1", BENCH_FIRST_RUN, BENCH_INIT_ENTERED},
        {"to_ready", "exec() of wisp-vmm to ready", BENCH_SPAWN, BENCH_READY},
        {"to_first_byte", "exec() of wisp-vmm to the first command's first byte", BENCH_SPAWN, BENCH_FIRST_BYTE},
        {"to_gone", "exec() of wisp-vmm to its process reaped", BENCH_SPAWN, BENCH_GONE},
        {"total", "everything, from the call to the library to the last process reaped", BENCH_CREATE, BENCH_GONE},
};

const char *const bench_counters[BENCH_COUNTERS] = {
        "exits", "io_exits", "mmio_exits", "halt_exits", "irq_exits", "irq_injections", "pf_taken"};

/* ---- The monitor's trace: lines of {"stage":"main","ns":123,"exits":4,...} ---- */

/* The number of a key in this line. False if there is none. */
static bool find_number(const char *line, size_t length, const char *key, uint64_t *value)
{
	char quoted[32];
	int n = snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	const char *at = memmem(line, length, quoted, (size_t)n);
	if (!at || at[n] < '0' || at[n] > '9')
		return false;
	*value = strtoull(at + n, NULL, 10);
	return true;
}

static void take_stamp(const char *line, size_t length, size_t stage, uint64_t ns, struct bench_sample *sample)
{
	sample->at[stage] = ns;
	for (size_t i = 0; i < BENCH_COUNTERS; i++)
		sample->counted[stage] |= find_number(line, length, bench_counters[i], &sample->counts[stage][i]);
}

bool bench_parse_trace(const char *text, struct bench_sample *sample)
{
	static const char head[] = "{\"stage\":\"";
	while (*text) {
		size_t length = strcspn(text, "\n");
		uint64_t ns;
		if (strncmp(text, head, strlen(head)) != 0 || text[length] != '\n' || text[length - 1] != '}' ||
		        !find_number(text, length, "ns", &ns))
			return false;
		const char *name = text + strlen(head);
		size_t name_length = strcspn(name, "\"\n");
		for (size_t i = 0; i < BENCH_STAGES; i++) {
			if (strlen(bench_stages[i].name) == name_length &&
			        strncmp(bench_stages[i].name, name, name_length) == 0)
				take_stamp(text, length, i, ns, sample);
		}
		text += length + 1;
	}
	return true;
}

/* ---- From stamps to durations ---- */

/* The latest time of the previous stages: threads may reach some of them in another order. */
static uint64_t latest_before(const struct bench_sample *sample, size_t stage)
{
	uint64_t latest = 0;
	for (size_t i = 0; i < stage; i++) {
		if (sample->at[i] > latest)
			latest = sample->at[i];
	}
	return latest;
}

uint64_t bench_begin(const struct bench_sample *sample)
{
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		if (sample->at[i])
			return sample->at[i];
	}
	return 0;
}

int64_t bench_took(const struct bench_sample *sample, enum bench_stage stage)
{
	uint64_t before = latest_before(sample, stage);
	if (sample->at[stage] == 0 || before == 0)
		return -1;
	return sample->at[stage] > before ? (int64_t)(sample->at[stage] - before) : 0;
}

int64_t bench_span(const struct bench_sample *sample, const struct bench_span_info *span)
{
	uint64_t from = sample->at[span->from], to = sample->at[span->to];
	return from == 0 || to < from ? -1 : (int64_t)(to - from);
}

int64_t bench_exits(const struct bench_sample *sample, enum bench_stage stage, size_t counter)
{
	if (!sample->counted[stage])
		return -1;
	for (size_t i = stage; i-- > 0;) {
		if (sample->counted[i])
			return (int64_t)(sample->counts[stage][counter] - sample->counts[i][counter]);
	}
	return -1;
}

/* ---- The kernel's symbols ---- */

size_t bench_find_breakpoints(const char *map, struct bench_breakpoints *breakpoints)
{
	static const struct {
		enum bench_stage stage;
		const char *symbol;
	} wanted[BENCH_BREAKPOINTS] = {
	        {BENCH_START_KERNEL, "start_kernel"},
	        {BENCH_REST_INIT, "rest_init"},
	        {BENCH_INITCALLS, "do_one_initcall"},
	        {BENCH_FREE_INITMEM, "free_initmem"},
	        {BENCH_INIT_EXEC, "run_init_process"},
	};
	size_t count = 0;
	for (size_t i = 0; i < BENCH_BREAKPOINTS; i++) {
		char line[64];
		/* "ffffffff81aa7a29 T start_kernel\n"; code only. */
		for (const char *type = "tT"; *type; type++) {
			snprintf(line, sizeof(line), " %c %s\n", *type, wanted[i].symbol);
			const char *at = strstr(map, line);
			if (!at || at - map < 16)
				continue;
			snprintf(breakpoints->text[count], sizeof(breakpoints->text[count]), "%s=0x%.16s",
			        bench_stages[wanted[i].stage].name, at - 16);
			breakpoints->list[count] = breakpoints->text[count];
			count++;
			break;
		}
	}
	breakpoints->list[count] = NULL;
	return count;
}
