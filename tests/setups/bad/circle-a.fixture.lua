return provium:vm_fixture('setups/bad/circle-b'):snapshot()
