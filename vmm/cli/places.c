/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/command.h"

static const char *setting(const char *name)
{
	const char *value = getenv(name);
	return value && value[0] ? value : NULL;
}

/* NAME's value if it is set, else the two parts; NULL without memory. */
static char *choose(const char *name, const char *directory, const char *below)
{
	const char *given = setting(name);
	char *path;
	if (given)
		return strdup(given);
	return asprintf(&path, "%s%s", directory, below) < 0 ? NULL : path;
}

/* wisp's files are found relative to the program, wherever the two are installed. */
static char *find_libdir(unsigned up, const char *below)
{
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
	path[length > 0 ? length : 0] = '\0';
	for (; up > 0; up--) {
		char *slash = strrchr(path, '/');
		if (!slash)
			return choose("WISP_LIBDIR", WISP_PREFIX, "/lib/wisp");
		*slash = '\0';
	}
	return choose("WISP_LIBDIR", path, below);
}

bool cli_find_places(struct cli_places *places, unsigned up, const char *below)
{
	const char *runtime = setting("XDG_RUNTIME_DIR"), *cache = setting("XDG_CACHE_HOME"), *home = setting("HOME");
	places->state_root = choose("WISP_STATE", runtime ? runtime : "/run", "/wisp");
	places->libdir = find_libdir(up, below);
	if (cache)
		places->cache_dir = choose("WISP_CACHE", cache, "/wisp/images");
	else
		places->cache_dir =
		        choose("WISP_CACHE", home ? home : "/var/cache", home ? "/.cache/wisp/images" : "/wisp/images");
	return places->state_root && places->libdir && places->cache_dir;
}

void cli_free_places(struct cli_places *places)
{
	free(places->state_root);
	free(places->libdir);
	free(places->cache_dir);
}
