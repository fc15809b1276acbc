/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
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

/* A directory of this user: XDG's variable, or `below` in the home directory. NULL: neither is known, or no memory. */
static char *find_user_dir(const char *variable, const char *below)
{
	const char *xdg = setting(variable), *home = setting("HOME");
	char *path;
	/* A relative path is to be ignored, says the XDG specification. */
	if (xdg && xdg[0] == '/')
		return strdup(xdg);
	return home && home[0] == '/' && asprintf(&path, "%s%s", home, below) >= 0 ? path : NULL;
}

bool cli_find_places(struct cli_places *places, unsigned up, const char *below)
{
	/* Root's sandboxes are the system's. Those of a user must outlive the login, and $XDG_RUNTIME_DIR does not. */
	char *state = geteuid() == 0 ? NULL : find_user_dir("XDG_STATE_HOME", "/.local/state");
	char *cache = find_user_dir("XDG_CACHE_HOME", "/.cache");
	places->state_root = choose("WISP_STATE", state ? state : "/run", "/wisp");
	places->libdir = find_libdir(up, below);
	places->cache_dir = choose("WISP_CACHE", cache ? cache : "/var/cache", "/wisp/images");
	free(state);
	free(cache);
	return places->state_root && places->libdir && places->cache_dir;
}

bool cli_may_keep_state(const char *state_root, char existing[PATH_MAX])
{
	snprintf(existing, PATH_MAX, "%s", state_root);
	while (access(existing, F_OK) < 0 && errno == ENOENT) {
		char *slash = strrchr(existing, '/');
		if (!slash)
			snprintf(existing, PATH_MAX, ".");
		else
			slash[slash == existing] = '\0';
	}
	return access(existing, W_OK | X_OK) == 0;
}

void cli_free_places(struct cli_places *places)
{
	free(places->state_root);
	free(places->libdir);
	free(places->cache_dir);
}
