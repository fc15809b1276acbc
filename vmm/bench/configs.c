/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/bench.h"

int bench_split_words(char *text, char **words, int most)
{
	int count = 0;
	while (*text) {
		text += strspn(text, " \t\n");
		if (!*text || count == most)
			break;
		char *to = text, quote = '\0';
		words[count++] = to;
		for (; *text && (quote || !strchr(" \t\n", *text)); text++) {
			if (quote ? *text == quote : *text == '\'' || *text == '"')
				quote = quote ? '\0' : *text;
			else
				*to++ = *text;
		}
		if (*text)
			text++;
		*to = '\0';
	}
	return count;
}

static struct bench_config *add_config(struct bench *bench, const char *label, const char *words)
{
	if (bench->config_count == BENCH_CONFIGS_MAX) {
		cli_fail("bench: there are more than %u configurations", BENCH_CONFIGS_MAX);
		return NULL;
	}
	struct bench_config *config = &bench->config[bench->config_count++];
	config->setup = bench->options->setup;
	snprintf(config->label, sizeof(config->label), "%s", label);
	snprintf(config->words, sizeof(config->words), "%s", words);
	return config;
}

/* `words` is a command line whose options replace those of the base; its disks replace all disks of the base. */
static int add_parsed(struct bench *bench, const char *label, const char *words)
{
	const struct cli_machine *base = &bench->options->setup.machine;
	char *argv[BENCH_WORDS_MAX + 2] = {NULL};
	struct bench_config *config = add_config(bench, label, words);
	if (!config)
		return CLI_EXIT_FAILED;
	config->split = strdup(words);
	if (!config->split)
		return cli_fail("out of memory");
	config->parsed = config->setup;
	config->parsed.machine.disks = NULL;
	config->parsed.machine.disk_count = 0;
	config->call =
	        (struct cli_call){.verb = &bench_setup_verb, .places = bench->places, .options = &config->parsed};
	int argc = 1 + bench_split_words(config->split, argv + 1, BENCH_WORDS_MAX);
	int code = cli_parse(argc, argv, &config->call);
	if (code != 0)
		return code;
	config->setup = config->parsed;
	if (config->setup.machine.disk_count == 0) {
		config->setup.machine.disks = base->disks;
		config->setup.machine.disk_count = base->disk_count;
	}
	if (config->call.operand_count > 0)
		config->setup.image = config->call.operands[0];
	return 0;
}

void bench_free_config(struct bench_config *config)
{
	free(config->samples);
	if (config->call.verb)
		cli_free_call(&config->call);
	free(config->split);
}

/* "vcpus=1,2,4" */
static int add_sweep(struct bench *bench)
{
	const char *sweep = bench->options->sweep, *equals = strchr(sweep, '=');
	char why[CLI_WHY_SIZE] = "", value[24], label[64];
	size_t name = equals ? (size_t)(equals - sweep) : 0;
	bool vcpus = name == 5 && strncmp(sweep, "vcpus", 5) == 0;
	if (!vcpus && !(name == 6 && strncmp(sweep, "memory", 6) == 0))
		return cli_fail("--sweep '%s': write vcpus=1,2,4 or memory=128,256,1G", sweep);
	for (const char *at = equals + 1;; at++) {
		size_t length = strcspn(at, ",");
		uint64_t count = 0;
		uint32_t mib = 0;
		snprintf(value, sizeof(value), "%.*s", (int)length, at);
		if (vcpus ? !cli_parse_count(value, WISP_CPUS_MAX, &count, why) || count == 0
		          : !cli_parse_memory(value, &mib, why))
			return cli_fail("--sweep '%s': '%s': %s", sweep, value, why[0] ? why : "give 1 or more");
		snprintf(label, sizeof(label), "%.*s=%s", (int)name, sweep, value);
		struct bench_config *config = add_config(bench, label, label);
		if (!config)
			return CLI_EXIT_FAILED;
		if (vcpus)
			config->setup.machine.cpus = count;
		else
			config->setup.machine.memory_mib = mib;
		at += length;
		if (!*at)
			return 0;
	}
}

/* Refuses options that the kind of benchmark does not have. */
static int check_options(const struct bench_options *options, const struct bench_kind *kind)
{
	bool boot = strcmp(kind->name, "boot") == 0, exec = strcmp(kind->name, "exec") == 0;
	bool vsock = strcmp(kind->name, "vsock") == 0;
	bool clones = strcmp(kind->name, "fork") == 0 || strcmp(kind->name, "restore") == 0;
	if ((options->bare || options->small_pages || options->prefetch || options->idle) && !clones)
		return cli_fail(
		        "bench %s: only wisp bench fork and restore have the options --bare, --idle, --prefetch "
		        "and --small-pages",
		        kind->name);
	if ((options->prefetch || options->idle) && !options->bare)
		return cli_fail("bench %s: --idle and --prefetch require --bare", kind->name);
	if (kind->configs && !options->a && !options->b)
		return cli_fail("bench compare: give the options that differ with --a or --b or both, as in "
		                "--a '-m 128' --b '-m 1G'");
	if (!kind->configs && (options->a || options->b))
		return cli_fail("bench %s: only wisp bench compare has the options --a and --b", kind->name);
	if (options->sweep && !boot && !options->bare)
		return cli_fail(
		        "bench %s: only wisp bench boot, and fork and restore with --bare, have the option --sweep",
		        kind->name);
	if (options->stream_mib && !exec)
		return cli_fail("bench %s: only wisp bench exec has the option --stream", kind->name);
	if (options->cycles && !vsock)
		return cli_fail("bench %s: only wisp bench vsock has the option --cycles", kind->name);
	if (options->peer && !kind->peers)
		return cli_fail(
		        "bench %s: only wisp bench boot, floor, blk and vsock have the option --peer", kind->name);
	if ((options->peer_cid || options->overwrite) && !kind->devices)
		return cli_fail("bench %s: only wisp bench vsock and blk have the options --peer-cid and --overwrite",
		        kind->name);
	if (options->peer && (options->sweep || options->setup.untraced || options->setup.symbols))
		return cli_fail(
		        "bench %s: --peer cannot be combined with --sweep, --untraced and --symbols", kind->name);
	if (options->cold && (kind->devices || clones))
		return cli_fail("bench %s: the sandbox runs before the measurement begins; omit --cold", kind->name);
	return 0;
}

int bench_add_configs(struct bench *bench, const struct bench_kind *kind)
{
	const struct bench_options *options = bench->options;
	int code = check_options(options, kind);
	if (code != 0)
		return code;
	if (options->sweep)
		return add_sweep(bench);
	if (!kind->configs)
		return add_config(bench, kind->name, "") ? 0 : CLI_EXIT_FAILED;
	code = add_parsed(bench, "a", options->a ? options->a : "");
	return code ? code : add_parsed(bench, "b", options->b ? options->b : "");
}
