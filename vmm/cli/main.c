/* SPDX-License-Identifier: Apache-2.0 */
/* The wisp command: finds the verb, parses its options, runs it. */
#include <errno.h>
#include <string.h>

#include "vmm/cli/cli.h"

/* Output that could not be written is a failure: a full disk must not look like success. */
static int flush(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	return code ? code : cli_fail("cannot write standard output: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	struct cli_args args;
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
	cli_set_places();
	int code = cli_parse(verb, argc - 1, argv + 1, &args);
	if (code == 0 && args.help)
		cli_print_help(verb, stdout);
	else if (code == 0)
		code = verb->run(&args);
	cli_free_args(&args);
	return flush(code);
}
