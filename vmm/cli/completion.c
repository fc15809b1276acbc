/* SPDX-License-Identifier: Apache-2.0 */
/* wisp completion. */
#include "vmm/cli/cli.h"

int cli_completion(struct cli_args *args)
{
	return cli_fail("no completion for '%s' yet", args->operands[0]);
}

int cli_cp(struct cli_args *args)
{
	(void)args;
	return cli_fail("cp is not there yet");
}
