/* SPDX-License-Identifier: Apache-2.0 */
/* The wisp command: finds the verb and runs it. */
#include <string.h>

#include "vmm/cli/verbs.h"

int main(int argc, char **argv)
{
	struct cli_places places;
	cli_begin();
	if (argc < 2) {
		cli_print_usage(stderr);
		return CLI_EXIT_FAILED;
	}
	const char *name = argv[1];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
		name = "version";
	const struct cli_verb *verb = cli_find_verb(name);
	if (!verb)
		return cli_fail_verb(name);
	int code;
	if (!cli_find_places(&places, 2, "/lib/wisp"))
		code = cli_fail("out of memory");
	else if (verb->program)
		code = cli_exec_program(verb, &places, argv + 1);
	else
		code = cli_main(verb, &places, argc - 1, argv + 1);
	cli_free_places(&places);
	return code;
}
