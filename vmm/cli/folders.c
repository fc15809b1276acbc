/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/folders.h"

#include <stdlib.h>
#include <string.h>

#define FORM "write HOST:GUEST[:ro][,uid=map|squash][,cache=auto|always], with an absolute path in the guest"

#define OPTIONS "its options are uid=map, uid=squash, cache=auto and cache=always, one of each kind, after :ro"

/* Takes `end` off the text, if the text ends so. */
static bool take_end(char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);
	if (length < tail || strcmp(text + length - tail, end) != 0)
		return false;
	text[length - tail] = '\0';
	return true;
}

static bool take_owners(char *text, struct wisp_folder *folder)
{
	if (take_end(text, ",uid=map"))
		folder->owners = WISP_OWNERS_MAP;
	else if (!take_end(text, ",uid=squash"))
		return false;
	return true;
}

static bool take_cache(char *text, struct wisp_folder *folder)
{
	if (take_end(text, ",cache=always"))
		folder->cache = WISP_FOLDER_ALWAYS;
	else if (!take_end(text, ",cache=auto"))
		return false;
	return true;
}

/* Takes options off the end, in any order and each once. The rest is of the path, which may have colons and commas. */
static void take_options(char *text, struct wisp_folder *folder)
{
	bool owners = take_owners(text, folder);
	if (take_cache(text, folder) && !owners)
		take_owners(text, folder);
	folder->read_only = take_end(text, ":ro");
}

/* Whether an option with a wrong value is left, or one too many. A slash at its end makes a path of it. */
static bool has_option(const char *text)
{
	const char *comma = strrchr(text, ',');
	return comma && !strchr(comma, '/') && (strncmp(comma, ",uid=", 5) == 0 || strncmp(comma, ",cache=", 7) == 0);
}

/* The guest's path begins behind the last colon that a slash follows. */
static char *find_guest(char *text)
{
	char *found = NULL;
	for (char *at = strstr(text, ":/"); at; at = strstr(at + 1, ":/"))
		found = at;
	return found;
}

static bool take_folder(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_folders *folders = to;
	struct wisp_folder *grown = reallocarray(folders->folders, folders->count + 1, sizeof(*grown));
	char *copy = strdup(text);
	(void)option;
	if (grown)
		folders->folders = grown;
	if (!grown || !copy) {
		free(copy);
		return cli_refuse(why, "out of memory");
	}
	struct wisp_folder folder = {.path = copy};
	take_options(copy, &folder);
	if (has_option(copy)) {
		free(copy);
		return cli_refuse(why, OPTIONS);
	}
	char *colon = find_guest(copy);
	if (!colon || colon == copy) {
		free(copy);
		return cli_refuse(why, FORM);
	}
	*colon = '\0';
	folder.guest = colon + 1;
	grown[folders->count++] = folder;
	return true;
}

const struct cli_option cli_folders_options[] = {
        {.name = "volume",
                .letter = 'v',
                .value = "HOST:GUEST[:ro][,OPTION...]",
                .take = take_folder,
                .help = "let the guest use the folder or file HOST, at the path GUEST; ro: it only reads; uid=squash "
                        "(the default): all files are root's in the guest, and yours here; uid=map: ids of the guest "
                        "are ids of this host, for root only; cache=auto (the default): the guest sees what the host "
                        "changes within a second; cache=always: it may keep all that it knows, because nothing else "
                        "changes the folder; may be repeated"},
        {0},
};

void cli_release_folders(void *group)
{
	struct cli_folders *folders = group;
	/* take_folder allocated the paths, two in one. */
	union {
		const char *from;
		char *to;
	} path;
	for (size_t i = 0; i < folders->count; i++) {
		path.from = folders->folders[i].path;
		free(path.to);
	}
	free(folders->folders);
}

void cli_fill_folders(const struct cli_folders *folders, struct wisp_create_options *options)
{
	options->folders = folders->folders;
	options->folder_count = folders->count;
	options->folder_size = sizeof(*folders->folders);
}
