/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/from.h"

const struct cli_option cli_from_options[] = {
        {.name = "from",
                .value = "PATH",
                CLI_TEXT(struct cli_from, file),
                .help = "continue from this snapshot file instead of booting"},
        {.name = "copy-disks",
                CLI_FLAG(struct cli_from, copy_disks),
                .help = "with --from, give the sandbox copies of the disks it writes to, which vanish with it"},
        {.name = "prefetch",
                CLI_FLAG(struct cli_from, prefetch),
                .help = "with --from, read all saved memory before the guest runs: slower to start, then faster"},
        {0},
};

int cli_check_from(
        const struct cli_call *call, const struct cli_from *from, const struct cli_machine *machine, bool console)
{
	const struct {
		bool given;
		const char *option;
	} fixed[] = {
	        {machine->cpus, "cpus"},
	        {machine->memory_mib, "memory"},
	        {machine->writable, "rw"},
	        {machine->kernel, "kernel"},
	        {machine->kernel_args, "kernel-args"},
	        {machine->initramfs, "initramfs"},
	        {console, "console"},
	        {machine->reclaim, "reclaim"},
	};
	if (!from->file && from->prefetch)
		return cli_fail("%s: --prefetch requires --from", call->verb->name);
	if (!from->file)
		return from->copy_disks ? cli_fail("%s: --copy-disks requires --from", call->verb->name) : 0;
	if (call->operand_count > 0)
		return cli_fail("%s: unexpected operand '%s'; with --from, the image is the snapshot's",
		        call->verb->name, call->operands[0]);
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		if (fixed[i].given)
			return cli_fail("%s: --%s has no effect on a snapshot; omit it, or boot without --from",
			        call->verb->name, fixed[i].option);
	}
	return 0;
}

void cli_fill_from(const struct cli_from *from, struct wisp_create_options *options)
{
	options->from = from->file;
	options->copy_disks = from->copy_disks;
	options->prefetch = from->prefetch;
}
