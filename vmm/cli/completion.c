/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp completion: each shell's script, made of what every verb says about itself (cli_describe). The scripts ask wisp
 * for the names of sandboxes and sessions when the key is pressed. The format "man" prints the verbs' part of the man
 * page, which docs/man/build puts into the page.
 */
#include <string.h>

#include "vmm/cli/verbs.h"

static int describe_all(const struct cli_places *places, const char *format)
{
	int code = 0;
	for (const struct cli_verb *const *verb = cli_verbs; *verb && code == 0; verb++) {
		if ((*verb)->program)
			code = cli_describe_program(*verb, places, format);
		else
			cli_describe(*verb, format);
	}
	return code;
}

static int print_bash(const struct cli_places *places)
{
	fputs("# bash completion of wisp, made by `wisp completion bash`\n_wisp() {\n"
	      "	local cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} verbs flags values kinds words i n=0 "
	      "first=\n	verbs='",
	        stdout);
	for (const struct cli_verb *const *verb = cli_verbs; *verb; verb++)
		printf("%s ", (*verb)->name);
	fputs("'\n	COMPREPLY=()\n	if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	      "		COMPREPLY=($(compgen -W \"$verbs --help --version\" -- \"$cur\"))\n		"
	      "return\n	fi\n	case $verb in\n",
	        stdout);
	int code = describe_all(places, "bash");
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
	      "	word) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
	      "	verb) COMPREPLY=($(compgen -W \"$verbs\" -- \"$cur\")) ;;\n"
	      "	path)\n"
	      "		compopt -o nospace\n"
	      "		COMPREPLY=($(compgen -f -- \"$cur\") $(compgen -S : -W \"$(wisp ls -q 2>/dev/null)\" -- "
	      "\"$cur\")) ;;\n"
	      "	file) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
	      "	esac\n"
	      "}\ncomplete -o filenames -F _wisp wisp\n",
	        stdout);
	return code;
}

static int print_zsh(const struct cli_places *places)
{
	fputs("#compdef wisp\n# zsh completion of wisp, made by `wisp completion zsh`\n"
	      "_wisp_sandboxes() { local -a names; names=(${(f)\"$(wisp ls -q 2>/dev/null)\"}); compadd -a names }\n"
	      "_wisp_sessions() { compadd -- $(wisp sessions ${line[1]} 2>/dev/null | awk 'NR > 1 { print $1 }') }\n"
	      "_wisp_paths() { local -a names; names=(${(f)\"$(wisp ls -q 2>/dev/null)\"}); compadd -S : -a names; "
	      "_files }\n"
	      "_wisp_verbs() {\n\tlocal -a verbs\n\tverbs=(\n",
	        stdout);
	for (const struct cli_verb *const *verb = cli_verbs; *verb; verb++) {
		printf("\t\t'%s:", (*verb)->name);
		cli_print_zsh_text((*verb)->summary);
		fputs("'\n", stdout);
	}
	fputs("\t)\n\t_describe verb verbs\n}\n_wisp() {\n\tlocal -a line\n\tif ((CURRENT == 2)); then _wisp_verbs; "
	      "return; fi\n"
	      "\tlocal verb=${words[2]}\n\tshift words; ((CURRENT--))\n\tcase $verb in\n",
	        stdout);
	int code = describe_all(places, "zsh");
	fputs("\tesac\n}\n_wisp \"$@\"\n", stdout);
	return code;
}

static int print_fish(const struct cli_places *places)
{
	fputs("# fish completion of wisp, made by `wisp completion fish`\ncomplete -c wisp -f\n", stdout);
	for (const struct cli_verb *const *verb = cli_verbs; *verb; verb++) {
		printf("complete -c wisp -n __fish_use_subcommand -a %s -d '", (*verb)->name);
		cli_print_fish_text((*verb)->summary);
		fputs("'\n", stdout);
	}
	return describe_all(places, "fish");
}

static int completion(const struct cli_call *call)
{
	const char *shell = call->operands[0];
	if (strcmp(shell, "bash") == 0)
		return print_bash(call->places);
	if (strcmp(shell, "zsh") == 0)
		return print_zsh(call->places);
	if (strcmp(shell, "fish") == 0)
		return print_fish(call->places);
	if (strcmp(shell, "man") == 0)
		return describe_all(call->places, "man");
	return cli_fail("completion: there is no script for the shell '%s'; write bash, zsh or fish", shell);
}

const struct cli_verb cli_completion = {
        .name = "completion",
        .synopsis = "bash|zsh|fish",
        .summary = "Print a shell's completion script",
        .details = "  wisp completion bash > /etc/bash_completion.d/wisp\n"
                   "  wisp completion zsh > /usr/share/zsh/vendor-completions/_wisp\n"
                   "  wisp completion fish > ~/.config/fish/completions/wisp.fish",
        .operands = {CLI_WORD},
        .words = "bash zsh fish",
        .least = 1,
        .most = 1,
        .run = completion,
};
