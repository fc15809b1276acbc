/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp completion: scripts for the shells, from the tables. Names of sandboxes and sessions come from wisp itself when
 * the key is pressed. "man" prints the commands' part of the man page.
 */
#include <ctype.h>
#include <string.h>

#include "vmm/cli/cli.h"

/* Calls `visit` for every option of a verb. */
static void each_option(const struct cli_verb *verb, void (*visit)(const struct cli_verb *, const struct cli_option *))
{
	const struct cli_option *const help[] = {cli_help_option, NULL};
	const struct cli_option *const *sets[] = {verb->options, help};
	for (size_t s = 0; s < 2; s++) {
		for (const struct cli_option *const *table = sets[s]; table && *table; table++) {
			for (const struct cli_option *option = *table; option->name; option++)
				visit(verb, option);
		}
	}
}

/* The kind of the operand at `index`, the last one repeated. */
static enum cli_operand operand_kind(const struct cli_verb *verb, size_t index)
{
	return index < 3 ? verb->operands[index] : verb->operands[2];
}

/* ---- bash ---- */

static void bash_flag(const struct cli_verb *verb, const struct cli_option *option)
{
	(void)verb;
	printf("--%s ", option->name);
	if (option->letter)
		printf("-%c ", option->letter);
}

static void bash_value(const struct cli_verb *verb, const struct cli_option *option)
{
	(void)verb;
	if (!option->value)
		return;
	printf("--%s ", option->name);
	if (option->letter)
		printf("-%c ", option->letter);
}

static const char *const operand_words[] = {
        [CLI_NONE] = "none",
        [CLI_SANDBOX] = "sandbox",
        [CLI_SESSION] = "session",
        [CLI_IMAGE] = "file",
        [CLI_SHELL] = "shell",
        [CLI_PATH] = "path",
        [CLI_VERB] = "verb",
        [CLI_BENCH] = "bench",
};

static void print_bash(void)
{
	fputs("# bash completion of wisp, made by `wisp completion bash`\n_wisp() {\n"
	      "	local cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} verbs flags values kinds i n=0 "
	      "first=\n	verbs='",
	        stdout);
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++)
		printf("%s ", verb->name);
	fputs("'\n	COMPREPLY=()\n	if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	      "		COMPREPLY=($(compgen -W \"$verbs --help --version\" -- \"$cur\"))\n		"
	      "return\n	fi\n	case $verb in\n",
	        stdout);
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++) {
		printf("	%s%s%s) flags='", verb->name, verb->alias ? "|" : "", verb->alias ? verb->alias : "");
		each_option(verb, bash_flag);
		fputs("' values=' ", stdout);
		each_option(verb, bash_value);
		printf("' kinds=(%s %s %s) ;;\n", operand_words[operand_kind(verb, 0)],
		        operand_words[operand_kind(verb, 1)], operand_words[operand_kind(verb, 2)]);
	}
	fputs("	*) return ;;\n	esac\n"
	      "	for ((i = 2; i < COMP_CWORD; i++)); do\n"
	      "		case ${COMP_WORDS[i]} in\n"
	      "		--) COMPREPLY=($(compgen -c -f -- \"$cur\")); return ;;\n"
	      "		-*) [[ $values = *\" ${COMP_WORDS[i]} \"* ]] && ((i++)) ;;\n"
	      "		*) [ -n \"$first\" ] || first=${COMP_WORDS[i]}; ((n++)) ;;\n"
	      "		esac\n"
	      "	done\n"
	      "	if [ \"$i\" -gt \"$COMP_CWORD\" ]; then\n"
	      "		COMPREPLY=($(compgen -f -- \"$cur\"))\n"
	      "		return\n"
	      "	fi\n"
	      "	if [[ $cur = -* ]]; then\n"
	      "		COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n"
	      "		return\n"
	      "	fi\n"
	      "	case ${kinds[n > 2 ? 2 : n]} in\n"
	      "	sandbox) COMPREPLY=($(compgen -W \"$(wisp ls -q 2>/dev/null)\" -- \"$cur\")) ;;\n"
	      "	session) COMPREPLY=($(compgen -W \"$(wisp sessions \"$first\" 2>/dev/null | awk 'NR > 1 { print $1 "
	      "}')\" -- "
	      "\"$cur\")) ;;\n"
	      "	shell) COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$cur\")) ;;\n"
	      "	bench) COMPREPLY=($(compgen -W 'boot compare floor exec density blk vsock' -- \"$cur\")) ;;\n"
	      "	verb) COMPREPLY=($(compgen -W \"$verbs\" -- \"$cur\")) ;;\n"
	      "	path)\n"
	      "		compopt -o nospace\n"
	      "		COMPREPLY=($(compgen -f -- \"$cur\") $(compgen -S : -W \"$(wisp ls -q 2>/dev/null)\" -- "
	      "\"$cur\")) ;;\n"
	      "	file) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
	      "	esac\n"
	      "}\ncomplete -o filenames -F _wisp wisp\n",
	        stdout);
}

/* ---- zsh ---- */

/* In single quotes, for _arguments: ' and what it gives a meaning of its own. */
static void zsh_text(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else if (strchr("[]:\\", *text))
			printf("\\%c", *text);
		else
			putchar(*text);
	}
}

static void zsh_option(const struct cli_verb *verb, const struct cli_option *option)
{
	(void)verb;
	bool repeats = strstr(option->help, "repeated") != NULL;
	for (int form = option->letter ? 0 : 1; form < 2; form++) {
		fputs("\t\t'", stdout);
		if (repeats)
			putchar('*');
		if (form == 0)
			printf("-%c", option->letter);
		else
			printf("--%s", option->name);
		if (option->value)
			putchar(form == 0 ? '+' : '=');
		putchar('[');
		zsh_text(option->help);
		putchar(']');
		if (option->value) {
			putchar(':');
			zsh_text(option->value);
			fputs(strstr(option->value, "PATH") ? ":_files" : ": ", stdout);
		}
		fputs("' \\\n", stdout);
	}
}

static void print_zsh(void)
{
	static const char *const actions[] = {
	        [CLI_NONE] = "",
	        [CLI_SANDBOX] = "sandbox:_wisp_sandboxes",
	        [CLI_SESSION] = "session:_wisp_sessions",
	        [CLI_IMAGE] = "image:_files",
	        [CLI_SHELL] = "shell:(bash zsh fish)",
	        [CLI_PATH] = "path:_wisp_paths",
	        [CLI_VERB] = "verb:_wisp_verbs",
	        [CLI_BENCH] = "benchmark:(boot compare floor exec density blk vsock)",
	};
	fputs("#compdef wisp\n# zsh completion of wisp, made by `wisp completion zsh`\n"
	      "_wisp_sandboxes() { local -a names; names=(${(f)\"$(wisp ls -q 2>/dev/null)\"}); compadd -a names }\n"
	      "_wisp_sessions() { compadd -- $(wisp sessions ${line[1]} 2>/dev/null | awk 'NR > 1 { print $1 }') }\n"
	      "_wisp_paths() { local -a names; names=(${(f)\"$(wisp ls -q 2>/dev/null)\"}); compadd -S : -a names; "
	      "_files }\n"
	      "_wisp_verbs() {\n\tlocal -a verbs\n\tverbs=(\n",
	        stdout);
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++) {
		printf("\t\t'%s:", verb->name);
		zsh_text(verb->summary);
		fputs("'\n", stdout);
	}
	fputs("\t)\n\t_describe verb verbs\n}\n_wisp() {\n\tlocal -a line\n\tif ((CURRENT == 2)); then _wisp_verbs; "
	      "return; fi\n"
	      "\tlocal verb=${words[2]}\n\tshift words; ((CURRENT--))\n\tcase $verb in\n",
	        stdout);
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++) {
		printf("\t%s%s%s) _arguments -s \\\n", verb->name, verb->alias ? "|" : "",
		        verb->alias ? verb->alias : "");
		each_option(verb, zsh_option);
		for (size_t i = 0; i < 3 && i < verb->most && operand_kind(verb, i); i++)
			printf("\t\t'%zu:%s' \\\n", i + 1, actions[operand_kind(verb, i)]);
		if (verb->most > 3)
			printf("\t\t'*:%s' \\\n", actions[operand_kind(verb, 2)]);
		fputs("\t\t;;\n", stdout);
	}
	fputs("\tesac\n}\n_wisp \"$@\"\n", stdout);
}

/* ---- fish ---- */

static void fish_text(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			putchar('\\');
		putchar(*text);
	}
}

static void fish_option(const struct cli_verb *verb, const struct cli_option *option)
{
	printf("complete -c wisp -n '__fish_seen_subcommand_from %s%s%s' -l %s", verb->name, verb->alias ? " " : "",
	        verb->alias ? verb->alias : "", option->name);
	if (option->letter)
		printf(" -s %c", option->letter);
	if (option->value)
		fputs(strstr(option->value, "PATH") ? " -rF" : " -x", stdout);
	fputs(" -d '", stdout);
	fish_text(option->help);
	fputs("'\n", stdout);
}

static void print_fish(void)
{
	static const char *const words[] = {
	        [CLI_NONE] = NULL,
	        [CLI_SANDBOX] = "-fa '(wisp ls -q 2>/dev/null)'",
	        [CLI_SESSION] =
	                "-fa '(wisp sessions (commandline -opc)[3] 2>/dev/null | awk \"NR > 1 { print \\$1 }\")'",
	        [CLI_IMAGE] = "-F",
	        [CLI_SHELL] = "-fa 'bash zsh fish'",
	        [CLI_PATH] = "-Fa '(wisp ls -q 2>/dev/null)'",
	        [CLI_VERB] = NULL,
	        [CLI_BENCH] = "-fa 'boot compare floor exec density blk vsock'",
	};
	fputs("# fish completion of wisp, made by `wisp completion fish`\ncomplete -c wisp -f\n", stdout);
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++) {
		printf("complete -c wisp -n __fish_use_subcommand -a %s -d '", verb->name);
		fish_text(verb->summary);
		fputs("'\n", stdout);
		for (size_t i = 0; i < 2; i++) {
			const char *word = words[operand_kind(verb, i)];
			if (word && (i == 0 || operand_kind(verb, i) != operand_kind(verb, 0)))
				printf("complete -c wisp -n '__fish_seen_subcommand_from %s' %s\n", verb->name, word);
		}
		each_option(verb, fish_option);
	}
}

/* ---- man ---- */

/* Roff: a backslash is \e, a dash \-, and a line may not begin with a dot or quote. */
static void man_text(const char *text)
{
	bool begins = true;
	for (; *text; text++) {
		if (begins && (*text == '.' || *text == '\''))
			fputs("\\&", stdout);
		begins = *text == '\n';
		if (*text == '\\')
			fputs("\\e", stdout);
		else if (*text == '-')
			fputs("\\-", stdout);
		else
			putchar(*text);
	}
}

static void man_option(const struct cli_verb *verb, const struct cli_option *option)
{
	(void)verb;
	fputs(".TP\n", stdout);
	if (option->letter)
		printf("\\fB\\-%c\\fR, ", option->letter);
	fputs("\\fB\\-\\-", stdout);
	man_text(option->name);
	fputs("\\fR", stdout);
	if (option->value) {
		fputs(" \\fI", stdout);
		man_text(option->value);
		fputs("\\fR", stdout);
	}
	putchar('\n');
	/* A sentence here, where --help has a note. */
	printf("%c", toupper((unsigned char)option->help[0]));
	man_text(option->help + 1);
	fputs(".\n", stdout);
}

/* Paragraphs are parted by empty lines; lines that begin with two spaces are examples. */
static void man_details(const char *text)
{
	bool example = false;
	while (*text) {
		size_t length = strcspn(text, "\n");
		char line[1024];
		snprintf(line, sizeof(line), "%.*s", (int)length, text);
		bool is_example = strncmp(line, "  ", 2) == 0;
		if (is_example != example)
			puts(is_example ? ".PP\n.nf\n.RS" : ".RE\n.fi");
		example = is_example;
		if (line[0] == '\0') {
			puts(".PP");
		} else {
			man_text(example ? line + 2 : line);
			putchar('\n');
		}
		text += length + (text[length] == '\n');
	}
	if (example)
		puts(".RE\n.fi");
}

static void print_man(void)
{
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++) {
		printf(".SS \"wisp %s", verb->name);
		fputs(" [OPTION...] ", stdout);
		man_text(verb->synopsis);
		fputs("\"\n", stdout);
		man_text(verb->summary);
		fputs(".\n", stdout);
		if (verb->alias)
			printf("Also: \\fBwisp %s\\fR.\n", verb->alias);
		if (verb->details[0]) {
			puts(".PP");
			man_details(verb->details);
		}
		each_option(verb, man_option);
	}
}

int cli_completion(struct cli_args *args)
{
	const char *shell = args->operands[0];
	if (strcmp(shell, "bash") == 0)
		print_bash();
	else if (strcmp(shell, "zsh") == 0)
		print_zsh();
	else if (strcmp(shell, "fish") == 0)
		print_fish();
	else if (strcmp(shell, "man") == 0)
		print_man();
	else
		return cli_fail("completion: '%s' is no shell that is known: write bash, zsh or fish", shell);
	return 0;
}
