// SPDX-License-Identifier: MIT
// The whole host API in one include.
// Invariant: whatever a program needs that is not a kernel comes from here.
#pragma once

#include "cuda_zstd/host/arena_source.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/options.hpp"
#include "cuda_zstd/host/pooled_buffer.hpp"
#include "cuda_zstd/host/registered_stream.hpp"
#include "cuda_zstd/host/statistics.hpp"
#include "cuda_zstd/host/trace.hpp"
#include "cuda_zstd_memory_pool.h"
