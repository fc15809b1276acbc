/* SPDX-License-Identifier: Apache-2.0 */
/* wisp-bench, which `wisp bench` runs. */
#include <string.h>

#include "vmm/bench/bench.h"

int main(int argc, char **argv)
{
	struct cli_places places;
	cli_begin();
	if (argc == 3 && strcmp(argv[1], "--describe") == 0)
		return cli_describe(&bench_verb, argv[2]) ? cli_flush(0) : CLI_EXIT_FAILED;
	/* The program is in libdir. */
	int code = cli_find_places(&places, 1, "") ? cli_main(&bench_verb, &places, argc, argv)
	                                           : cli_fail("out of memory");
	cli_free_places(&places);
	return code;
}
