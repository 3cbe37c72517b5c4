/* SPDX-License-Identifier: MIT
 * RMM's resources behind four C functions: they are built against another CCCL than the benchmark, by setup_rmm.sh, and
 * loaded when the benchmark runs. Errors are null pointers; the message is that of rmm_subject_error(). */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* kind: "pool", "arena" or "async". The resource holds `bytes` from the start. */
void* rmm_subject_make(const char* kind, size_t bytes);
void rmm_subject_destroy(void* subject);
void* rmm_subject_allocate(void* subject, size_t bytes, void* stream);
void rmm_subject_deallocate(void* subject, void* block, size_t bytes, void* stream);
const char* rmm_subject_error(void);

#ifdef __cplusplus
}
#endif
