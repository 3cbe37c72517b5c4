// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/free_block_index.hpp"

namespace cuda_zstd::detail {

std::unique_ptr<FreeBlockIndex> FreeBlockIndex::make(Strategy strategy) {
    switch (strategy) {
    case Strategy::best_fit:
        return make_best_fit_index();
    case Strategy::first_fit:
        return make_first_fit_index();
    case Strategy::segregated:
        return make_segregated_index();
    }
    return nullptr;
}

} // namespace cuda_zstd::detail
