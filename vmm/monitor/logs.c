/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/logs.h"

#include "vmm/shared/sandbox_files.h"

#define CONSOLE_LOG_MAX (1u << 20)
#define VMM_LOG_MAX (1u << 20)
#define EXEC_LOG_MAX (16u << 20)

void logs_init(struct logs *logs, int dir)
{
	logfile_init(&logs->vmm, dir, SANDBOX_FILES_VMM_LOG, VMM_LOG_MAX);
	logfile_init(&logs->console, dir, SANDBOX_FILES_CONSOLE_LOG, CONSOLE_LOG_MAX);
	logfile_init(&logs->exec, dir, SANDBOX_FILES_EXEC_LOG, EXEC_LOG_MAX);
}

int logs_create(struct logs *logs, struct err *err)
{
	int ret = logfile_create(&logs->vmm, err);
	if (ret == 0)
		ret = logfile_create(&logs->console, err);
	return ret < 0 ? ret : logfile_create(&logs->exec, err);
}

void logs_close(struct logs *logs)
{
	logfile_close(&logs->vmm);
	logfile_close(&logs->console);
	logfile_close(&logs->exec);
}
