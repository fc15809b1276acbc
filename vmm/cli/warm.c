/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/warm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct cli_option cli_warm_options[] = {
        {.name = "warm",
                CLI_FLAG(struct cli_warm, wanted),
                .help = "start from a snapshot of a machine that has booted; if there is none, boot, and leave one"},
        {0},
};

static bool has_device_image(const struct wisp_create_options *options)
{
	struct stat st;
	return options->image && stat(options->image, &st) == 0 && S_ISBLK(st.st_mode);
}

void cli_fill_warm(const struct cli_warm *warm, struct wisp_create_options *options)
{
	const char *always = getenv("WISP_WARM");
	bool possible = !options->from && !options->writable && !options->overlay && options->disk_count == 0 &&
	                options->folder_count == 0 && !options->console && !options->net && !has_device_image(options);
	options->warm = warm->wanted || (always && strcmp(always, "1") == 0 && possible);
}

/* Nothing of the user's stays open but `ended`, at descriptor 3. */
static bool leave_everything(int ended)
{
	sigset_t none;
	sigemptyset(&none);
	setsid();
	for (int signal_number = 1; signal_number <= SIGRTMAX; signal_number++)
		signal(signal_number, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Whatever this process was started without, the descriptors below 3 are free for nothing else. */
	int high = fcntl(ended, F_DUPFD, 4);
	if (high < 0 || dup2(high, 3) < 0)
		return false;
	close_range(4, ~0u, 0);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return false;
	for (int fd = 0; fd < 3; fd++) {
		if (null != fd && dup2(null, fd) < 0)
			return false;
	}
	if (null > 3)
		close(null);
	errno = 0;
	return nice(19) != -1 || errno == 0;
}

void cli_leave_warm(const struct wisp_create_options *options)
{
	int ends[2];
	char byte;
	/* The other end is this process's until it ends. */
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	pid_t pid = fork();
	if (pid != 0) {
		close(ends[0]);
		if (pid < 0)
			close(ends[1]);
		return;
	}
	if (!leave_everything(ends[0]))
		_exit(CLI_EXIT_FAILED);
	while (read(3, &byte, 1) < 0 && errno == EINTR)
		;
	close(3);
	struct wisp_create_options own = *options;
	own.cancel = NULL;
	own.progress = NULL;
	own.console_fd = NULL;
	_exit(wisp_make_warm(&own, NULL) < 0 ? CLI_EXIT_FAILED : 0);
}
