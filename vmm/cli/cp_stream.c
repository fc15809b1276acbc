/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of one file, through cat in the guest: nothing is replaced there, and no size is believed. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/cp.h"
#include "vmm/cli/cp_file.h"

int cp_stream_in(struct copy *copy, int fd, const char *show, const char *guest_path)
{
	struct guest guest;
	char buffer[65536];
	int code = 0;
	const char *argv[] = {"sh", "-c", "exec cat > \"$1\"", "sh", guest_path, NULL};
	if (!guest_start(&guest, copy, argv, true))
		return CLI_EXIT_FAILED;
	progress_begin(&copy->progress, copy->quiet, 0);
	while (code == 0) {
		int number = cp_wait(fd, POLLIN, copy->signals);
		ssize_t n = number ? 0 : read(fd, buffer, sizeof(buffer));
		if (number)
			code = CLI_EXIT_SIGNAL + number;
		else if (n < 0 && errno != EINTR && errno != EAGAIN)
			code = cli_fail("cannot read %s: %s", show, strerror(errno));
		else if (n == 0 || (n > 0 && !guest_write(&guest, buffer, (size_t)n)))
			break;
		progress_add(&copy->progress, n > 0 ? (uint64_t)n : 0);
	}
	progress_end(&copy->progress);
	if (code == 0)
		return guest_finish(&guest, guest_path);
	guest_abort(&guest);
	return code;
}

int cp_stream_out(struct copy *copy, const char *guest_path)
{
	struct guest guest;
	struct cp_file file = {
	        .fd = STDOUT_FILENO, .signals = copy->signals, .in_place = true, .show = "standard output"};
	char buffer[65536];
	size_t n;
	int code = 0;
	const char *argv[] = {"cat", guest_path, NULL};
	if (!guest_start(&guest, copy, argv, false))
		return CLI_EXIT_FAILED;
	progress_begin(&copy->progress, copy->quiet || isatty(STDOUT_FILENO), 0);
	while (code == 0 && (n = guest_read(&guest, buffer, sizeof(buffer))) > 0) {
		code = cp_file_write(&file, buffer, n);
		progress_add(&copy->progress, n);
	}
	progress_end(&copy->progress);
	if (code == 0)
		return guest_finish(&guest, guest_path);
	guest_abort(&guest);
	return code;
}
