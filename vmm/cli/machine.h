/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a sandbox's machine, for every verb that boots one, and the wait for its boot. */
#ifndef WISP_CLI_MACHINE_H
#define WISP_CLI_MACHINE_H

#include "vmm/cli/command.h"

struct cli_machine {
	uint64_t cpus;
	uint32_t memory_mib, memory_max_mib, cpu_max_milli;
	uint64_t pids_max;
	struct wisp_rate image_rate, overlay_rate, vsock_rate, console_rate;
	struct wisp_net net; /* a size of 0: none */
	char *net_text;      /* which holds its strings */
	int net_fd;
	struct wisp_disk *disks;
	size_t disk_count;
	bool writable, no_jail, private_memory, reclaim;
	enum wisp_jail_mode jail; /* read cli_jail_mode */
	enum wisp_engine engine;
	const char *overlay, *hostname, *shell, *kernel, *kernel_args, *initramfs, *monitor;
	int64_t boot_timeout_ms, grace_ms, max_duration_ms, idle_timeout_ms;
};

extern const struct cli_option cli_machine_options[];
void cli_release_machine(void *machine);
/* The row of a verb's groups. */
#define CLI_MACHINE_GROUP(type, field)                                                                 \
	{                                                                                              \
		.options = cli_machine_options, .offset = CLI_OFFSET(type, field, struct cli_machine), \
		.release = cli_release_machine                                                         \
	}

/* What --jail and --no-jail say together. */
enum wisp_jail_mode cli_jail_mode(const struct cli_machine *machine);

/* For a sandbox that ends with this process. The options borrow from `machine` and `places`. */
void cli_fill_machine(const struct cli_machine *machine, const struct cli_places *places, const char *image,
        struct wisp_create_options *options);
/* Returns 0 when it is ready, the number of a signal that arrived first, or -errno. */
int cli_wait_ready(struct wisp_sandbox *sandbox, int signal_fd, struct wisp_error *error);

#endif
